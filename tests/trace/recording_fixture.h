#ifndef CONDUCTOR_TESTS_TRACE_RECORDING_FIXTURE_H_
#define CONDUCTOR_TESTS_TRACE_RECORDING_FIXTURE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "lib/trace/recording_format.h"
#include "lib/trace/recording_reader.h"

namespace conductor::trace {

// A folder that is gone after the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "recording-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void Write(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline ReadBytes Bytes(std::string bytes) {
  return [bytes = std::move(bytes), at = size_t{0}](char* to, size_t size) mutable {
    const size_t got = std::min(size, bytes.size() - at);
    std::memcpy(to, bytes.data() + at, got);
    at += got;
    return Result<size_t>(got);
  };
}

using Strings = std::vector<std::string>;

inline bool Has(const Strings& all, std::string_view one) {
  return std::ranges::find(all, one) != all.end();
}
inline bool Has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// What a reader gave, in words: "publisher 0 tcp://a", "frame 0 @5 t|seq|payload",
// "mark 0 lost 3", "damage 120+60".
inline Strings Told(RecordingReader& reader) {
  Strings told;
  while (const auto item = reader.Next()) {
    if (const auto* publisher = std::get_if<RecordingReader::NewPublisher>(&*item)) {
      told.push_back("publisher " + std::to_string(publisher->number) + " " +
                     reader.publishers().at(publisher->number).endpoint);
    } else if (const auto* frame = std::get_if<RecordedFrame>(&*item)) {
      std::string text = (frame->replayed ? "replayed " : "frame ") +
                         std::to_string(frame->publisher) + " @" +
                         std::to_string(frame->received_ns) + " ";
      for (size_t i = 0; i < frame->frames.size(); ++i) {
        text += (i > 0 ? "|" : "") + std::string(frame->frames[i]);
      }
      told.push_back(text);
    } else if (const auto* mark = std::get_if<RecordedMark>(&*item)) {
      const bool all = mark->publisher == RecordedMark::kAllPublishers;
      told.push_back("mark " + (all ? "all" : std::to_string(mark->publisher)) + " " +
                     std::string(MarkName(mark->kind)) + " " + std::to_string(mark->count));
    } else if (const auto* damage = std::get_if<Damage>(&*item)) {
      told.push_back("damage " + std::to_string(damage->offset) + "+" +
                     std::to_string(damage->bytes));
    }
  }
  return told;
}

inline Strings ToldOf(const std::string& path) {
  auto reader = RecordingReader::Open({path});
  if (!reader) return {reader.error().Message()};
  return Told(*reader);
}

}  // namespace conductor::trace

#endif  // CONDUCTOR_TESTS_TRACE_RECORDING_FIXTURE_H_
