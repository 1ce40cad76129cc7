#include "lib/base/result.h"

namespace conductor {

std::string Error::Message() const {
  std::string message;
  if (!where.empty()) message.append(where).append(": ");
  message.append(what);
  if (!expected.empty()) message.append(" (expected ").append(expected).append(")");
  return message;
}

Error Error::Within(std::string_view prefix) && {
  if (where.empty()) {
    where = prefix;
  } else {
    where.insert(0, std::string(prefix) + ": ");
  }
  return std::move(*this);
}

}  // namespace conductor
