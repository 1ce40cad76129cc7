#include "lib/trace/simulated_engine.h"
