#include "lib/wire/vllm_encoder.h"
