#include "lib/stream/trust.h"
