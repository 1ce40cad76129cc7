#include "daemon/serve/http_api.h"
