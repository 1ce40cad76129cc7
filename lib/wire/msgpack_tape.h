#ifndef CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_
#define CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_

namespace conductor::wire {
class MsgpackTape {};
}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_
