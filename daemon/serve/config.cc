#include "daemon/serve/config.h"
