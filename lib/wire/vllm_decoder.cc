#include "lib/wire/vllm_decoder.h"
