#include "daemon/serve/answers.h"
