#include "lib/stream/transport.h"
