#include "daemon/serve/pool_admin.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

using nlohmann::json;

// So that a name that no longer answers does not hold up the end of the daemon.
constexpr time_t kConnectSeconds = 2;
// Of an answer other than the list of all keys.
constexpr size_t kMostAnswerBytes = 4 << 20;

// `key` for a query string. What keys are made of may stand there as it is.
std::string Encoded(std::string_view key) {
  std::string encoded;
  for (const char c : key) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-_.~@:/").find(c) != std::string_view::npos;
    if (plain) {
      encoded.push_back(c);
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

bool HasReplicas(const json& values, const char* field) {
  const auto found = values.find(field);
  return found != values.end() && found->is_array() && !found->empty();
}

}  // namespace

struct PoolAdmin::Impl {
  Impl(std::string the_endpoint, const std::string& host, int port, Duration timeout)
      : endpoint(std::move(the_endpoint)), client(host, port) {
    client.set_connection_timeout(kConnectSeconds);
    client.set_read_timeout(timeout);
    client.set_write_timeout(timeout);
    client.set_keep_alive(true);
    client.set_url_encode(false);
  }

  // Hands the body of GET `path` to `take`, piece by piece, until it returns false.
  [[nodiscard]] Status Get(const std::string& path, const httplib::ContentReceiver& take);
  [[nodiscard]] Result<json> GetJson(const std::string& path);

  const std::string endpoint;  // for messages
  httplib::Client client;
  std::atomic<bool> stopped = false;
};

Status PoolAdmin::Impl::Get(const std::string& path, const httplib::ContentReceiver& take) {
  // Queries hold keys: too much for a message.
  const auto where = [&] {
    return fmt::format("http://{}{}", endpoint, path.substr(0, path.find('?')));
  };
  if (stopped) return Fail("is not asked any more", where());
  int status = 0;
  const auto result = client.Get(
      path,
      [&](const httplib::Response& response) {
        status = response.status;
        return status == 200;
      },
      [&](const char* data, size_t size) { return !stopped && take(data, size); });
  if (status != 0 && status != 200) {
    return Fail(fmt::format("answered with status {}", status), where(),
                "200: the HTTP port of a Mooncake master");
  }
  if (!result) {
    return Fail(fmt::format("did not answer: {}", httplib::to_string(result.error())), where(),
                "the HTTP port of a Mooncake master");
  }
  return {};
}

Result<json> PoolAdmin::Impl::GetJson(const std::string& path) {
  std::string body;
  const auto status = Get(path, [&](const char* data, size_t size) {
    body.append(data, size);
    return body.size() <= kMostAnswerBytes;
  });
  if (!status) return tl::unexpected(status.error());
  json value = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded() || !value.is_object()) {
    return Fail("answered with something else than a JSON object",
                fmt::format("http://{}{}", endpoint, path.substr(0, path.find('?'))));
  }
  return value;
}

Result<std::unique_ptr<PoolAdmin>> PoolAdmin::Create(const std::string& endpoint,
                                                     Duration timeout) {
  constexpr std::string_view kScheme = "http://";
  std::string_view address = endpoint;
  if (address.starts_with(kScheme)) address.remove_prefix(kScheme.size());
  if (address.ends_with('/')) address.remove_suffix(1);
  const auto parsed = Endpoint::Parse(fmt::format("tcp://{}", address));
  if (!parsed || parsed->port == 0) {
    return Fail(fmt::format("'{}' is no address", endpoint), "admin_endpoint",
                "HOST:PORT of the master's HTTP port");
  }
  return std::unique_ptr<PoolAdmin>(new PoolAdmin(std::make_unique<Impl>(
      std::string(address), parsed->host, static_cast<int>(parsed->port), timeout)));
}

PoolAdmin::PoolAdmin(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PoolAdmin::~PoolAdmin() = default;

Result<std::vector<ingest::ListedObject>> PoolAdmin::AllKeys(size_t max_bytes) {
  std::vector<ingest::ListedObject> objects;
  std::string rest;  // of a line that is not whole yet
  size_t bytes = 0;
  const auto add = [&](std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) return;
    bytes += line.size() + sizeof(ingest::ListedObject);
    objects.push_back(ingest::ListedObject{.key = std::string(line)});
  };
  const auto status = impl_->Get("/get_all_keys", [&](const char* data, size_t size) {
    std::string_view piece(data, size);
    for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
      rest.append(piece.substr(0, end));
      add(rest);
      rest.clear();
      piece.remove_prefix(end + 1);
    }
    rest.append(piece);
    return bytes + rest.size() <= max_bytes;
  });
  if (bytes + rest.size() > max_bytes) {
    return Fail(fmt::format("lists more than {} bytes", max_bytes),
                fmt::format("http://{}/get_all_keys", impl_->endpoint),
                "a higher --max-pool-bytes");
  }
  if (!status) return tl::unexpected(status.error());
  add(rest);
  return objects;
}

Result<std::vector<ingest::ListedObject>> PoolAdmin::Tiers(std::span<const std::string> keys) {
  std::string path = "/batch_query_keys?keys=";
  std::vector<ingest::ListedObject> objects;
  objects.reserve(keys.size());
  for (const std::string& key : keys) {
    objects.push_back(ingest::ListedObject{.key = key});
    // The separator cannot be told from a comma in a key, so such a key is not asked for.
    if (key.find(',') != std::string::npos) continue;
    if (!path.ends_with('=')) path.push_back(',');
    path += Encoded(key);
  }
  std::optional<json> answer;
  if (!path.ends_with('=')) {
    auto got = impl_->GetJson(path);
    if (!got) return tl::unexpected(got.error());
    answer = std::move(*got);
    const auto data = answer->find("data");
    if (data == answer->end() || !data->is_object()) {
      return Fail("has no object 'data'",
                  fmt::format("http://{}/batch_query_keys", impl_->endpoint));
    }
  }
  for (ingest::ListedObject& object : objects) {
    if (object.key.find(',') != std::string::npos) {
      object.disk = true;  // the weakest claim
      continue;
    }
    const json& data = (*answer)["data"];
    const auto found = data.find(object.key);
    if (found == data.end() || !found->is_object()) continue;
    object.cpu = HasReplicas(*found, "values");
    for (const char* field : {"disk_values", "local_disk_values", "nof_values"}) {
      object.disk |= HasReplicas(*found, field);
    }
  }
  return objects;
}

Result<uint64_t> PoolAdmin::PublishedEvents() {
  const auto answer = impl_->GetJson("/kv_events/status");
  if (!answer) return tl::unexpected(answer.error());
  const auto published = answer->find("published_events");
  if (published == answer->end() || !published->is_number_unsigned()) {
    return Fail("has no number 'published_events'",
                fmt::format("http://{}/kv_events/status", impl_->endpoint));
  }
  return published->get<uint64_t>();
}

void PoolAdmin::Stop() {
  impl_->stopped = true;
  impl_->client.stop();
}

}  // namespace conductor::serve
