#include "daemon/serve/registration.h"
