#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCORE_SOURCE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCORE_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/client/client.h"

namespace conductor::toolkit {

// Who is asked for scores. Whatever it is, it is asked through a client.
class ScoreSource {
 public:
  virtual ~ScoreSource() = default;

  // A client for one thread, which must not outlive the source. Any thread.
  [[nodiscard]] virtual Result<client::Client> Connect() = 0;
  // What to do about an error of such a client; empty: nothing that it does not say itself.
  [[nodiscard]] virtual std::string Advice(const Error& error) const = 0;
  // The models that it has, where that is known without asking: a prompt that names none means the
  // only one.
  [[nodiscard]] virtual std::vector<std::string> Models() const { return {}; }
};

struct ConductorSourceOptions {
  std::vector<std::string> urls;                  // in the order of preference
  std::string token_file;                         // empty: see ReadBearerToken()
  std::string ca_file;                            // empty: the system's
  Duration time_limit = std::chrono::seconds(5);  // for one answer, whoever gives it
};

inline constexpr const char* kDefaultConductor = "http://127.0.0.1:13333";

// Running daemons. Errors: a URL that cannot be used, a token file that cannot be read.
[[nodiscard]] Result<std::unique_ptr<ScoreSource>> AskConductors(
    const ConductorSourceOptions& options);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCORE_SOURCE_H_
