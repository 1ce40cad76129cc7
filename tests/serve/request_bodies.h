#ifndef CONDUCTOR_TESTS_SERVE_REQUEST_BODIES_H_
#define CONDUCTOR_TESTS_SERVE_REQUEST_BODIES_H_

#include <nlohmann/json.hpp>
#include <string>

#include "daemon/serve/document.h"
#include "daemon/serve/request_body.h"

namespace conductor::serve {

// Its members in their order.
inline std::string InForm(const nlohmann::ordered_json& body, BodyForm form) {
  if (form == BodyForm::kJson) return body.dump();
  std::string bytes;
  nlohmann::ordered_json::to_msgpack(body, bytes);
  return bytes;
}

template <typename T>
RequestError ErrorOf(const Parsed<T>& parsed) {
  return parsed ? RequestError{"no error", "", "", {}} : parsed.error();
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_REQUEST_BODIES_H_
