#include "lib/trace/simulated_publisher.h"
