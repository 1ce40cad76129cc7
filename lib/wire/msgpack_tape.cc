#include "lib/wire/msgpack_tape.h"
