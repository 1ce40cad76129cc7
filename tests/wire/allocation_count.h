#ifndef CONDUCTOR_TESTS_WIRE_ALLOCATION_COUNT_H_
#define CONDUCTOR_TESTS_WIRE_ALLOCATION_COUNT_H_

#include <cstddef>

namespace conductor::wire {

// Bytes that this test binary asked operator new for, freed ones too, since the count was last set
// to zero. For tests of one thread.
extern size_t allocated_bytes;

}  // namespace conductor::wire

#endif  // CONDUCTOR_TESTS_WIRE_ALLOCATION_COUNT_H_
