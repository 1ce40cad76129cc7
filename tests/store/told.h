#ifndef CONDUCTOR_TESTS_STORE_TOLD_H_
#define CONDUCTOR_TESTS_STORE_TOLD_H_

#include <string>

#include "lib/base/result.h"

namespace conductor::store {

// All that a file says when it is read, as text: two files that say the same have the same. Errors:
// it cannot be read.
[[nodiscard]] Result<std::string> Told(const std::string& path);

}  // namespace conductor::store

#endif  // CONDUCTOR_TESTS_STORE_TOLD_H_
