#include "lib/stream/publisher_stream.h"
