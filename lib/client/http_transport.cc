#include "lib/client/http_transport.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <utility>

#include "lib/client/watchdog.h"

namespace conductor::client {
namespace {

constexpr const char* kJson = "application/json";
constexpr const char* kMsgpack = "application/msgpack";
constexpr auto kBeyond = std::chrono::seconds(1);

// What is left until `deadline`, as httplib takes it: above zero.
std::chrono::microseconds Left(MonoTime deadline) {
  return std::max(std::chrono::duration_cast<std::chrono::microseconds>(deadline - MonoNow()),
                  std::chrono::microseconds(1));
}

std::string Describe(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "cannot connect";
    case httplib::Error::ConnectionTimeout:
      return "no connection in time";
    case httplib::Error::Read:
      return "the connection ended before the answer was whole";
    case httplib::Error::Write:
      return "the connection ended before the request was sent";
    case httplib::Error::SSLConnection:
      return "no TLS there";
    case httplib::Error::SSLLoadingCerts:
      return "the certificates to check it with cannot be read";
    case httplib::Error::SSLServerVerification:
      return "its certificate is not trusted";
    default:
      return fmt::format("no answer (httplib error {})", static_cast<int>(error));
  }
}

// Before anything of the request could be sent.
bool IsBeforeRequest(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
    case httplib::Error::SSLConnection:
    case httplib::Error::SSLLoadingCerts:
    case httplib::Error::SSLServerVerification:
      return true;
    default:
      return false;
  }
}

class HttpTransport final : public Transport {
 public:
  HttpTransport(const ConductorUrl& url, const HttpTransportOptions& options)
      : client_(Address(url)), watchdog_([this] { client_.stop(); }) {
    client_.set_keep_alive(true);
    client_.set_tcp_nodelay(true);
    client_.set_follow_location(false);
    if (!options.token.empty()) client_.set_bearer_token_auth(options.token);
    if (!options.ca_file.empty()) client_.set_ca_cert_path(options.ca_file);
    client_.enable_server_certificate_verification(options.verify_certificates);
  }

  [[nodiscard]] bool Carries(const Request&) const override { return true; }

  [[nodiscard]] tl::expected<Reply, Failure> Exchange(const Request& request,
                                                      const Deadlines& deadlines) override {
    Reply reply;
    bool too_large = false;
    httplib::Request sent;
    sent.method = request.method;
    sent.path = request.path;
    sent.body = request.body;
    const char* form = request.form == Form::kMsgpack ? kMsgpack : kJson;
    sent.headers = {{"Accept", form}};
    if (!request.body.empty()) sent.headers.emplace("Content-Type", form);
    sent.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
      too_large = reply.body.size() + size > kMostAnswerBytes;
      if (!too_large) reply.body.append(data, size);
      return !too_large;
    };
    client_.set_connection_timeout(Left(deadlines.connect));
    // The library's limits are for one read each: a server that sends a byte now and then would
    // never reach them. So it is the watchdog that ends the exchange.
    client_.set_read_timeout(Left(deadlines.whole) + kBeyond);
    client_.set_write_timeout(Left(deadlines.whole) + kBeyond);
    watchdog_.Watch(deadlines.whole);
    const httplib::Result result = client_.send(sent);
    const bool was_cut = watchdog_.End();
    if (result) {
      reply.status = result->status;
      reply.form = result->get_header_value("Content-Type").find("msgpack") == std::string::npos
                       ? Form::kJson
                       : Form::kMsgpack;
      return reply;
    }
    if (too_large) {
      return tl::unexpected(Failure{
          {fmt::format("its answer has more than {} bytes", kMostAnswerBytes), {}, {}}, true});
    }
    const bool before = IsBeforeRequest(result.error());
    if (was_cut && !before) {
      return tl::unexpected(Failure{{"no whole answer in time", {}, {}}, true});
    }
    return tl::unexpected(Failure{{Describe(result.error()), {}, {}}, !before});
  }

 private:
  static std::string Address(const ConductorUrl& url) {
    const bool ipv6 = url.host.find(':') != std::string::npos;
    return fmt::format("{}://{}{}{}:{}",
                       url.scheme == ConductorUrl::Scheme::kHttps ? "https" : "http",
                       ipv6 ? "[" : "", url.host, ipv6 ? "]" : "", url.port);
  }

  httplib::Client client_;
  Watchdog watchdog_;  // ends before client_
};

}  // namespace

std::unique_ptr<Transport> MakeHttpTransport(const ConductorUrl& url,
                                             const HttpTransportOptions& options) {
  return std::make_unique<HttpTransport>(url, options);
}

}  // namespace conductor::client
