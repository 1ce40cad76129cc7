#include "daemon/serve/registry.h"
