#ifndef CONDUCTOR_DAEMON_PROXY_METASERVER_H_
#define CONDUCTOR_DAEMON_PROXY_METASERVER_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace conductor::proxy {

// Which requests wait for their decoder to call POST /v1/metaserver (Order::kDecodeCallsBack). The
// call may come in on any connection. Any thread.
class Metaserver {
 public:
  // What a call becomes, once it has been done: an HTTP status.
  using Done = std::function<void(int status)>;
  // `params`: the JSON object that was posted, to be sent to the prefiller whole.
  using Called = std::function<void(std::string params, Done done)>;

  // While it lives, calls for `request_id` (request_id.h) are told to `called`. Of a request with
  // several prompts the decoder calls for each; the last call tells, with what was posted for the
  // first prompt, and the others are done with 200. So is a call that comes again when all have
  // come, for a decoder repeats one that is not answered soon.
  class Waiting {
   public:
    Waiting(Metaserver& server, std::string request_id, size_t prompts, Called called);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Metaserver& server_;
    const std::string request_id_;
  };

  Metaserver() = default;
  Metaserver(const Metaserver&) = delete;
  Metaserver& operator=(const Metaserver&) = delete;

  // One call; `done` is called once, with 404 where nobody waits for it. An error when the body
  // names no request. Whoever names one has it from the proxy, by the decoder: ids cannot be
  // guessed.
  [[nodiscard]] Status Call(std::string_view body, Done done);

 private:
  struct Entry {
    size_t prompts = 1;
    std::map<size_t, std::string> params;  // by the prompt's number
    bool has_called = false;
    Called called;
  };

  std::mutex mutex_;  // guards the rest
  std::map<std::string, Entry, std::less<>> waiting_;
};

// A request as an engine of vLLM names it: "cmpl-ID-N" or "chatcmpl-ID", where ID is one of
// request_id.h, perhaps with "-" and a suffix of the engine's own.
struct EngineRequestId {
  std::string id;
  size_t prompt = 0;
};
[[nodiscard]] std::optional<EngineRequestId> ParseEngineRequestId(std::string_view text);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_METASERVER_H_
