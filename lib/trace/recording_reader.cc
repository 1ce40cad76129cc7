#include "lib/trace/recording_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "lib/base/number.h"
#include "lib/trace/recording_blocks.h"

namespace conductor::trace {
namespace {

constexpr size_t kFewestPartDigits = 4;
// Dates, which other programs rotate by, have eight.
constexpr size_t kMostPartDigits = 7;

Result<ReadBytes> OpenFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return Fail(fmt::format("cannot be opened: {}", std::strerror(errno)), path,
                "a recording, as conductor tap --record writes it");
  }
  const std::shared_ptr<const int> owner(new int(fd), [](const int* held) {
    ::close(*held);
    delete held;
  });
  return [owner, path](char* to, size_t size) -> Result<size_t> {
    for (;;) {
      const ssize_t got = ::read(*owner, to, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) {
        return Fail(fmt::format("cannot be read: {}", std::strerror(errno)), path);
      }
    }
  };
}

// What was rotated away from `path`, by number.
std::map<uint64_t, std::string> PartsOf(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path newest(path);
  const std::string name = newest.filename().string();
  std::map<uint64_t, std::string> parts;
  std::error_code error;
  const fs::path folder = newest.has_parent_path() ? newest.parent_path() : fs::path(".");
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string other = at->path().filename().string();
    const auto number = PartNumber(name, other);
    if (number) parts[*number] = newest.has_parent_path() ? at->path().string() : other;
  }
  return parts;
}

// A file that was rotated away, as its name says.
struct Part {
  std::string recording;  // "folder/r" of "folder/r.0002"
  uint64_t number = 0;
};

std::optional<Part> PartOf(std::string_view path) {
  const size_t dot = path.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view recording = path.substr(0, dot);
  const auto number = PartNumber(recording, path);
  if (!number) return std::nullopt;
  return Part{std::string(recording), *number};
}

std::string NameOfPart(const Part& part) {
  return fmt::format("{}.{:0{}}", part.recording, part.number, kFewestPartDigits);
}

// The parts that would stand between two files of a recording.
std::optional<Damage> MissingBetween(std::string_view before, std::string_view after) {
  const auto first = PartOf(before);
  const auto next = PartOf(after);
  if (!first || !next || first->recording != next->recording || next->number <= first->number + 1) {
    return std::nullopt;
  }
  Damage damage{.file = NameOfPart({first->recording, first->number + 1}),
                .missing_parts = next->number - first->number - 1};
  damage.what =
      damage.missing_parts == 1
          ? "this part of the recording is missing"
          : fmt::format("this part of the recording and all up to {} are missing, {} together",
                        NameOfPart({next->recording, next->number - 1}),
                        Counted(damage.missing_parts, "part"));
  return damage;
}

// What a file is, under whatever name: its device and inode. Nothing where there is none.
std::optional<std::pair<uint64_t, uint64_t>> Identity(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return std::nullopt;
  return std::pair<uint64_t, uint64_t>(found.st_dev, found.st_ino);
}

}  // namespace

std::string Damage::Describe() const {
  if (missing_parts > 0) return fmt::format("{}: {}", file, what);
  std::string text = fmt::format("{}: byte {}: {}", file, offset, what);
  if (bytes > 0) {
    text += fmt::format("; {} {} passed over", Counted(bytes, "byte"), bytes == 1 ? "is" : "are");
  }
  if (records > 0) text += fmt::format(", {} with them", Counted(records, "record"));
  return text;
}

struct RecordingReader::Impl {
  std::vector<std::string> paths;  // not opened yet from next_path on
  size_t next_path = 0;
  size_t joined = 1;  // paths before it follow what stands before them, or it was told
  std::string file;
  std::optional<RecordingBlocks> blocks;
  RecordingHeader header;
  uint64_t whole_bytes = 0;
  uint64_t bytes_of_others = 0;

  std::string_view records;  // of the piece that is being read
  std::optional<RecordingBlocks::Piece> piece;
  uint64_t taken = 0;  // records of it

  // What is read and waits to be handed out: the publisher that it names was not known before.
  std::optional<Item> waiting;

  std::vector<RecordedPublisher> publishers;
  std::map<std::tuple<std::string, std::string, std::string, std::string>, uint32_t> numbers;
  std::map<uint32_t, uint32_t> number_of;  // the file's number -> ours
  Counters counters;

  Status Begin(ReadBytes read, std::string name) {
    EndFile();
    file = std::move(name);
    blocks.emplace(std::move(read), file);
    number_of.clear();
    auto read_header = blocks->ReadHeader();
    if (!read_header) {
      auto damage = blocks->PassDamagedHeader();
      if (!damage) {
        blocks.reset();
        return tl::unexpected(std::move(read_header).error());
      }
      piece = {.damage = std::move(damage)};
      taken = 0;
    }
    header = read_header.value_or(RecordingHeader());
    whole_bytes = blocks->whole_bytes();
    return {};
  }

  void EndFile() {
    if (blocks) bytes_of_others += blocks->bytes_read();
    blocks.reset();
    piece.reset();
  }

  Status OpenNext() {
    file = paths[next_path++];
    auto read = OpenFile(file);
    if (!read) return tl::unexpected(std::move(read).error());
    return Begin(*std::move(read), file);
  }

  Damage Count(Damage damage) {
    ++counters.damages;
    counters.damaged_bytes += damage.bytes;
    counters.missing_parts += damage.missing_parts;
    return damage;
  }

  // Our number of a publisher, and whether it is new. Nothing when there are too many.
  std::optional<std::pair<uint32_t, bool>> Number(const RecordedPublisher& publisher) {
    const auto key =
        std::tuple(publisher.endpoint, publisher.replay_endpoint, publisher.topic, publisher.facts);
    if (const auto known = numbers.find(key); known != numbers.end()) {
      return std::pair(known->second, false);
    }
    if (publishers.size() == kMostPublishers) return std::nullopt;
    const auto number = static_cast<uint32_t>(publishers.size());
    publishers.push_back(publisher);
    numbers.emplace(key, number);
    return std::pair(number, true);
  }

  std::optional<Item> Named(const NumberedPublisher& record) {
    const auto number = Number(record.publisher);
    if (!number) return TooMany();
    number_of[record.number] = number->first;
    if (!number->second) return std::nullopt;
    return NewPublisher{number->first};
  }

  Item TooMany() {
    return Count({.file = file,
                  .offset = piece->offset,
                  .records = 1,
                  .what = fmt::format("tells of more than {} publishers", kMostPublishers)});
  }

  // An item that speaks of a publisher by the file's number.
  template <typename T>
  std::optional<Item> Renumbered(T record) {
    if (record.publisher == RecordedMark::kAllPublishers) return record;
    if (const auto known = number_of.find(record.publisher); known != number_of.end()) {
      record.publisher = known->second;
      return record;
    }
    // Its record was in a part that is damaged.
    const auto number =
        Number({.endpoint = fmt::format("unknown publisher {} of {}", record.publisher, file)});
    if (!number) return TooMany();
    number_of[record.publisher] = number->first;
    record.publisher = number->first;
    if (!number->second) return record;
    waiting = std::move(record);
    return NewPublisher{number->first};
  }

  std::optional<Item> Take() {
    auto record = TakeRecord(records);
    if (!record) {
      const bool whole = piece->whole;
      const uint64_t left = piece->claimed > taken ? piece->claimed - taken : 0;
      records = {};
      // Of a block that is damaged the damage is told anyway.
      if (!whole) return std::nullopt;
      return Count({.file = file,
                    .offset = piece->offset,
                    .records = left,
                    .what = "in this block " + record.error().Message()});
    }
    ++taken;
    ++counters.records;
    if (const auto* publisher = std::get_if<NumberedPublisher>(&*record)) return Named(*publisher);
    if (auto* frame = std::get_if<RecordedFrame>(&*record)) return Renumbered(std::move(*frame));
    if (auto* mark = std::get_if<RecordedMark>(&*record)) return Renumbered(std::move(*mark));
    ++counters.unknown_records;
    return std::nullopt;
  }

  // The next piece of the file, or the next file; false at the end of all.
  bool NextPiece(std::optional<Item>& item) {
    if (!blocks) {
      if (next_path == paths.size()) return false;
      if (std::exchange(joined, next_path + 1) <= next_path) {
        if (auto missing = MissingBetween(paths[next_path - 1], paths[next_path])) {
          item = Count(*std::move(missing));
          return true;
        }
      }
      if (auto opened = OpenNext(); !opened) {
        // That it is this file is said by the damage.
        opened.error().where.clear();
        item = Count({.file = file, .to_end = true, .what = opened.error().Message()});
      }
      return true;
    }
    piece = blocks->Next();
    whole_bytes = blocks->whole_bytes();
    if (!piece) {
      EndFile();
      return true;
    }
    counters.blocks += piece->whole;
    records = piece->records;
    taken = 0;
    return true;
  }
};

RecordingReader::RecordingReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RecordingReader::RecordingReader(RecordingReader&&) noexcept = default;
RecordingReader& RecordingReader::operator=(RecordingReader&&) noexcept = default;
RecordingReader::~RecordingReader() = default;

Result<RecordingReader> RecordingReader::Open(std::vector<std::string> paths) {
  auto impl = std::make_unique<Impl>();
  impl->paths = std::move(paths);
  if (impl->paths.empty()) return Fail("no file is named", {}, "one recording or several");
  if (auto opened = impl->OpenNext(); !opened) return tl::unexpected(std::move(opened).error());
  return RecordingReader(std::move(impl));
}

Result<RecordingReader> RecordingReader::From(ReadBytes read, std::string name) {
  auto impl = std::make_unique<Impl>();
  if (auto begun = impl->Begin(std::move(read), std::move(name)); !begun) {
    return tl::unexpected(std::move(begun).error());
  }
  return RecordingReader(std::move(impl));
}

std::optional<RecordingReader::Item> RecordingReader::Next() {
  if (impl_->waiting) return std::exchange(impl_->waiting, std::nullopt);
  for (;;) {
    while (!impl_->records.empty()) {
      if (auto item = impl_->Take()) return item;
    }
    if (impl_->piece && impl_->piece->damage) {
      Damage damage = *std::exchange(impl_->piece->damage, std::nullopt);
      if (impl_->piece->claimed > impl_->taken) {
        damage.records = impl_->piece->claimed - impl_->taken;
      }
      return impl_->Count(std::move(damage));
    }
    std::optional<Item> item;
    if (!impl_->NextPiece(item)) return std::nullopt;
    if (item) return item;
  }
}

const std::vector<RecordedPublisher>& RecordingReader::publishers() const {
  return impl_->publishers;
}
const RecordingHeader& RecordingReader::header() const { return impl_->header; }
const RecordingReader::Counters& RecordingReader::counters() const { return impl_->counters; }
uint64_t RecordingReader::whole_bytes() const { return impl_->whole_bytes; }
uint64_t RecordingReader::bytes_read() const {
  return impl_->bytes_of_others + (impl_->blocks ? impl_->blocks->bytes_read() : 0);
}

std::optional<uint64_t> PartNumber(std::string_view newest, std::string_view other) {
  if (!other.starts_with(newest)) return std::nullopt;
  other.remove_prefix(newest.size());
  if (!other.starts_with('.')) return std::nullopt;
  const std::string_view digits = other.substr(1);
  if (digits.size() < kFewestPartDigits || digits.size() > kMostPartDigits) return std::nullopt;
  if (digits.size() > kFewestPartDigits && digits.front() == '0') return std::nullopt;
  uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

std::vector<std::string> RecordingFiles(const std::string& path) {
  return RecordingFiles(std::span(&path, 1));
}

std::vector<std::string> RecordingFiles(std::span<const std::string> paths) {
  std::vector<std::string> files;
  std::set<std::pair<uint64_t, uint64_t>> known;
  const auto add = [&](std::string file) {
    const auto identity = Identity(file);
    // What is not there is told by who opens it.
    if (!identity || known.insert(*identity).second) files.push_back(std::move(file));
  };
  for (const std::string& path : paths) {
    const auto parts = PartsOf(path);
    for (const auto& [number, part] : parts) add(part);
    if (parts.empty() || Identity(path)) add(path);
  }
  return files;
}

std::vector<std::string> MissingEnds(std::span<const std::string> paths) {
  std::vector<std::string> missing;
  for (const std::string& path : paths) {
    const auto parts = PartsOf(path);
    if (parts.empty()) continue;
    const auto& [first, name] = *parts.begin();
    if (first > 1) {
      missing.push_back(fmt::format("{}: the recording begins with this part, without {} before it",
                                    name,
                                    first == 2 ? "the one" : fmt::format("the {}", first - 1)));
    }
    if (!Identity(path)) {
      missing.push_back(fmt::format("{}: the newest part of the recording is not there", path));
    }
  }
  return missing;
}

bool IsRecording(const std::string& path) {
  auto read = OpenFile(path);
  if (!read) return false;
  std::array<char, kFixedHeaderBytes> fixed{};
  const auto got = (*read)(fixed.data(), fixed.size());
  return got && HeaderSize({fixed.data(), *got}).has_value();
}

}  // namespace conductor::trace
