#include "daemon/toolkit/score_input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/toolkit/token_file.h"

namespace conductor::toolkit {

ScoreInput::ScoreInput(ScoreInputOptions options, ScorePrompt defaults)
    : options_(std::move(options)), defaults_(std::move(defaults)) {}

ScoreItem ScoreInput::Item(std::string source, Result<ScorePrompt> prompt) {
  return {++items_, std::move(source), std::move(prompt)};
}

Result<ScorePrompt> ScoreInput::OfTokens(const std::string& path) const {
  auto tokens = ReadTokenFile(path);
  if (!tokens) return tl::unexpected(std::move(tokens.error()));
  ScorePrompt prompt = defaults_;
  prompt.tokens = *std::move(tokens);
  return prompt;
}

Result<ScorePrompt> ScoreInput::OfText(Result<std::string> text) const {
  if (!text) return tl::unexpected(std::move(text.error()));
  ScorePrompt prompt = defaults_;
  prompt.to_tokenize = TokenizeText(*text, options_.chat);
  return prompt;
}

std::optional<ScoreItem> ScoreInput::Next() {
  for (;;) {
    if (open_) {
      if (auto item = NextLine()) return item;
      open_ = false;
    }
    size_t at = next_++;
    if (at < options_.token_files.size()) {
      const std::string& path = options_.token_files[at];
      return Item(path == "-" ? "stdin" : path, OfTokens(path));
    }
    at -= options_.token_files.size();
    if (at < options_.texts.size()) return Item("--prompt", OfText(options_.texts[at]));
    at -= options_.texts.size();
    if (at < options_.text_files.size()) {
      const std::string& path = options_.text_files[at];
      return Item(path == "-" ? "stdin" : path, OfText(ReadWholeFile(path)));
    }
    at -= options_.text_files.size();
    if (at >= options_.line_files.size()) return std::nullopt;
    const std::string& path = options_.line_files[at];
    name_ = path == "-" ? "stdin" : path;
    line_ = 0;
    buffer_.clear();
    at_ = 0;
    file_ = serve::FileDescriptor();
    if (path != "-") {
      file_ = serve::FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (file_.get() < 0) return Item(name_, Fail(std::strerror(errno), path));
    }
    open_ = true;
  }
}

std::optional<ScoreItem> ScoreInput::NextLine() {
  for (;;) {
    std::string line;
    bool too_long = false;
    const auto read = ReadLine(line, too_long);
    if (!read) return Item(name_, tl::unexpected(Error(read.error())));
    if (!*read) return std::nullopt;
    ++line_;
    if (!too_long && line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::string source = fmt::format("{}:{}", name_, line_);
    if (too_long) {
      return Item(std::move(source),
                  Fail(fmt::format("the line has more than {} bytes", kMostLineBytes)));
    }
    return Item(std::move(source), ParsePromptLine(line, defaults_, options_.chat));
  }
}

Result<bool> ScoreInput::ReadLine(std::string& line, bool& too_long) {
  const int fd = file_.get() >= 0 ? file_.get() : STDIN_FILENO;
  for (;;) {
    const size_t end = buffer_.find('\n', at_);
    const size_t piece = (end == std::string::npos ? buffer_.size() : end) - at_;
    if (line.size() + piece > kMostLineBytes) too_long = true;
    if (too_long) {
      line.clear();
    } else {
      line.append(buffer_, at_, piece);
    }
    at_ += piece;
    if (end != std::string::npos) {
      ++at_;
      return true;
    }
    buffer_.resize(1 << 16);
    at_ = 0;
    ssize_t got = 0;
    do {
      got = ::read(fd, buffer_.data(), buffer_.size());
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
      const int error = errno;
      buffer_.clear();
      if (got < 0) return Fail(std::strerror(error), name_);
      return too_long || !line.empty();  // the last line may have no end
    }
    buffer_.resize(static_cast<size_t>(got));
  }
}

}  // namespace conductor::toolkit
