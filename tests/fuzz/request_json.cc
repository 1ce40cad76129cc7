// Any bytes as the body of every kind of request, in JSON.

#include "request_bodies.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  conductor::serve::RequestBodies(bytes, conductor::serve::BodyForm::kJson).ReadAll();
  return 0;
}
