#ifndef CONDUCTOR_LIB_CLIENT_TRANSPORT_H_
#define CONDUCTOR_LIB_CLIENT_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::client {

enum class Form : uint8_t { kJson, kMsgpack };

// One request, whatever it goes by. Views must live until it is answered.
struct Request {
  std::string_view method = "GET";
  std::string_view path;
  std::string_view body;
  Form form = Form::kJson;  // of the body, and of the answer as far as the path knows it
};

struct Reply {
  int status = 0;  // HTTP's
  Form form = Form::kJson;
  std::string body;
};

// Why there is no reply.
struct Failure {
  Error error;
  bool asked = false;  // the conductor may have got the request
};

// When to give up.
struct Deadlines {
  MonoTime connect;  // without a connection; at or before `whole`
  MonoTime whole;    // without the whole answer
};

// An answer that is larger is none: a conductor's has some hundred bytes for each instance.
inline constexpr size_t kMostAnswerBytes = 64 << 20;

// The way to one conductor. Connects when it is first asked, keeps the connection, and makes
// another after a failure. One thread at a time.
class Transport {
 public:
  virtual ~Transport() = default;

  // Whether such a request can go this way at all.
  [[nodiscard]] virtual bool Carries(const Request& request) const = 0;

  // Blocks until there is an answer, whatever its status, or `deadlines` have passed. An error says
  // what was wrong; where is known to the caller.
  [[nodiscard]] virtual tl::expected<Reply, Failure> Exchange(const Request& request,
                                                              const Deadlines& deadlines) = 0;
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_TRANSPORT_H_
