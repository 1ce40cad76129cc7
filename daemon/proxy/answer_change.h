#ifndef CONDUCTOR_DAEMON_PROXY_ANSWER_CHANGE_H_
#define CONDUCTOR_DAEMON_PROXY_ANSWER_CHANGE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/proxy/http_head.h"

namespace conductor::proxy {

// An engine's answer on its way to the client, whole or a stream of events, whose JSON documents
// are changed. All else passes as it stands, in whole lines; so does what is too long to be looked
// at. One answer each.
class AnswerChange {
 public:
  virtual ~AnswerChange() = default;
  AnswerChange() = default;
  AnswerChange(const AnswerChange&) = delete;
  AnswerChange& operator=(const AnswerChange&) = delete;

  // The head came, of a success; changed to what the client gets: the body's length is not known.
  void Begin(ResponseHead& head);
  // What the client gets for the next bytes of the body; `piece` is empty at its end.
  [[nodiscard]] std::string Take(std::string_view piece);
  // A document was kept back, and all behind it. Take() is not called again.
  [[nodiscard]] bool is_interrupted() const { return is_interrupted_; }
  // Bytes that wait for the end of their line, or of the document.
  [[nodiscard]] size_t pending() const { return pending_.size(); }

 protected:
  // What the client gets in the place of one document, the whole answer or the data of one event.
  // Nothing: it is kept back, and all behind it.
  [[nodiscard]] virtual std::optional<std::string> Changed(std::string_view document,
                                                           bool is_event) = 0;

 private:
  // With its end.
  [[nodiscard]] std::string TakeLine(std::string_view line);
  [[nodiscard]] std::string Through(std::string_view document);

  bool is_stream_ = false;
  bool is_interrupted_ = false;
  bool passes_ = false;  // it is too long to be looked at
  std::string pending_;  // of a line or of the document, as far as it has come
  size_t searched_ = 0;  // bytes of it, which have no end of a line
};

// The data of an event that is a JSON object, in a line of a stream; empty: it has none.
[[nodiscard]] std::string_view EventDocument(std::string_view line);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ANSWER_CHANGE_H_
