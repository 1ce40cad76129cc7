#include "lib/wire/kv_event.h"
