#include "lib/index/prefix_index.h"
