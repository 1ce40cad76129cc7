#include "lib/ingest/publisher_ingest.h"
