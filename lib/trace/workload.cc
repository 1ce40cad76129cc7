#include "lib/trace/workload.h"
