#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/serve/http_listener.h"
#include "daemon/serve/tls_transport.h"
#include "tests/serve/eventually.h"
#include "tests/serve/http_client.h"

namespace conductor::serve {
namespace {

// A file that no other test has: they run beside each other.
std::string Place(const std::string& name) {
  return testing::TempDir() + "tls_" + std::to_string(::getpid()) + "_" + name;
}

using namespace std::chrono_literals;

// A certificate that vouches for itself, and its key, in files.
struct Identity {
  // Valid until `seconds` from now; the key has a passphrase unless that is nullptr.
  explicit Identity(const std::string& name, long seconds = 3600, const char* passphrase = nullptr)
      : cert(Place(name + std::string(".crt"))), key(Place(name + std::string(".key"))) {
    EVP_PKEY* pair = ::EVP_EC_gen("P-256");
    X509* x509 = ::X509_new();
    ::X509_set_version(x509, X509_VERSION_3);
    ::ASN1_INTEGER_set(::X509_get_serialNumber(x509), 1);
    ::X509_gmtime_adj(::X509_getm_notBefore(x509), -7200);
    ::X509_gmtime_adj(::X509_getm_notAfter(x509), seconds);
    ::X509_set_pubkey(x509, pair);
    X509_NAME* subject = ::X509_get_subject_name(x509);
    ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                 reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    ::X509_set_issuer_name(x509, subject);
    ::X509_sign(x509, pair, ::EVP_sha256());
    FILE* file = std::fopen(cert.c_str(), "w");
    ::PEM_write_X509(file, x509);
    std::fclose(file);
    file = std::fopen(key.c_str(), "w");
    ::PEM_write_PrivateKey(file, pair, passphrase == nullptr ? nullptr : ::EVP_aes_128_cbc(),
                           nullptr, 0, nullptr, const_cast<char*>(passphrase));
    std::fclose(file);
    ::chmod(key.c_str(), 0600);
    ::X509_free(x509);
    ::EVP_PKEY_free(pair);
  }

  [[nodiscard]] std::shared_ptr<const TlsContext> Load() const {
    auto context = TlsContext::Load(cert, key);
    EXPECT_TRUE(context) << context.error().Message();
    return context.value_or(nullptr);
  }

  std::string cert;
  std::string key;
};

// The same client over TLS. It trusts whomever it finds.
class TlsClient : public HttpClient {
 public:
  explicit TlsClient(uint16_t port, int newest = TLS1_3_VERSION, int oldest = TLS1_VERSION)
      : HttpClient(port) {
    const timeval patience{kPatience.count(), 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    SSL_CTX* context = ::SSL_CTX_new(::TLS_client_method());
    ::SSL_CTX_set_security_level(context, 0);  // or it would not offer what is to be refused
    ::SSL_CTX_set_min_proto_version(context, oldest);
    ::SSL_CTX_set_max_proto_version(context, newest);
    ssl_ = ::SSL_new(context);
    ::SSL_CTX_free(context);
    ::SSL_set_fd(ssl_, fd());
    open_ = ::SSL_connect(ssl_) == 1;
  }
  ~TlsClient() override { ::SSL_free(ssl_); }
  TlsClient(TlsClient&& other) noexcept
      : HttpClient(std::move(other)),
        ssl_(std::exchange(other.ssl_, nullptr)),
        open_(other.open_),
        goodbye_(other.goodbye_) {}

  [[nodiscard]] bool open() const { return open_; }
  // Whether the server has said that it ends.
  [[nodiscard]] bool goodbye() const { return goodbye_; }
  [[nodiscard]] std::string version() const { return ::SSL_get_version(ssl_); }
  // Of the certificate.
  [[nodiscard]] std::string name() const {
    const X509* certificate = ::SSL_get0_peer_certificate(ssl_);
    char text[64] = "";
    if (certificate != nullptr) {
      ::X509_NAME_get_text_by_NID(::X509_get_subject_name(certificate), NID_commonName, text,
                                  sizeof text);
    }
    return text;
  }

 protected:
  ssize_t Receive(char* to, size_t size) override {
    const int got = ::SSL_read(ssl_, to, static_cast<int>(size));
    if (got > 0) return got;
    const int error = ::SSL_get_error(ssl_, got);
    goodbye_ = error == SSL_ERROR_ZERO_RETURN;
    return error == SSL_ERROR_WANT_READ ? -1 : 0;
  }
  ssize_t Transmit(std::string_view bytes) override {
    return ::SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  }

 private:
  SSL* ssl_;
  bool open_ = false;
  bool goodbye_ = false;
};

// One whose handshake is done: on a busy machine one may take longer than the server waits.
TlsClient Opened(uint16_t port) {
  for (int i = 0; i < 100; ++i) {
    TlsClient client(port);
    if (client.open()) return client;
  }
  ADD_FAILURE() << "no handshake is done in time";
  return TlsClient(port);
}

class HttpTlsTest : public testing::Test {
 protected:
  void SetUp() override { std::signal(SIGPIPE, SIG_IGN); }  // the client writes by OpenSSL too

  uint16_t Start(HttpListener::Options options = {}) {
    listener_ = std::make_unique<HttpListener>(options);
    listener_->Route("POST", "/echo",
                     [](HttpRequest request) { return HttpResponse{.body = request.body}; });
    listener_->Route("GET", "/size",
                     [this](HttpRequest) { return HttpResponse{.body = std::string(size_, 'x')}; });
    listener_->Secure(Identity("first").Load());
    const auto port = listener_->Start();
    EXPECT_TRUE(port) << port.error().Message();
    return port.value_or(0);
  }

  bool AllAreGone() {
    return Eventually([this] {
      const auto connections = listener_->connections();
      return connections.accepted > 0 && connections.open == 0;
    });
  }

  std::atomic<size_t> size_ = 2;
  std::unique_ptr<HttpListener> listener_;
};

TEST_F(HttpTlsTest, KeepsAConnectionForAnyNumberOfRequests) {
  TlsClient client(Start());
  ASSERT_TRUE(client.open());
  EXPECT_EQ(client.version(), "TLSv1.3");
  for (int i = 0; i < 50; ++i) {
    const std::string body = "hello " + std::to_string(i);
    ASSERT_EQ(client.Post("/echo", body).body, body);
  }
  client.Send(
      "POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\na"
      "GET /size HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.Read().body, "a");
  EXPECT_EQ(client.Read().body, "xx");
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(client.goodbye()) << "an end that nobody could have forged";
  EXPECT_EQ(listener_->connections().unopened, 0U);
}

TEST_F(HttpTlsTest, LargeBodiesGoBothWays) {
  TlsClient client(Start());
  std::string body(4 << 20, 'a');
  for (size_t i = 0; i < body.size(); i += 97) body[i] = static_cast<char>('a' + i % 23);
  const Reply reply = client.Post("/echo", body);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, body);
}

TEST_F(HttpTlsTest, OldVersionsAreRefused) {
  const uint16_t port = Start();
  TlsClient newer(port, TLS1_2_VERSION, TLS1_2_VERSION);
  EXPECT_EQ(newer.version(), "TLSv1.2");
  EXPECT_EQ(newer.Get("/size").status, 200);
  EXPECT_FALSE(TlsClient(port, TLS1_1_VERSION).open());
  EXPECT_TRUE(Eventually([this] { return listener_->connections().unopened == 1; }));
}

TEST_F(HttpTlsTest, AClientThatSpeaksPlainHttpIsClosedAndCounted) {
  const uint16_t port = Start();
  HttpClient plain(port);
  plain.Send("GET /size HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(plain.Read().status, 0);
  EXPECT_TRUE(Eventually([this] { return listener_->connections().unopened == 1; }));
  EXPECT_EQ(TlsClient(port).Get("/size").status, 200) << "the next one is served";
}

TEST_F(HttpTlsTest, AHandshakeThatDoesNotEndIsCut) {
  const uint16_t port = Start({.limits = {.request_timeout = 100ms}});
  HttpClient silent(port);
  EXPECT_TRUE(silent.AtEnd());
  HttpClient drips(port);
  drips.Send("\x16\x03\x01\x02");  // a record of 512 bytes or more begins
  while (!drips.Readable(10ms)) drips.SendSome(std::string_view("\0", 1));
  EXPECT_TRUE(Eventually([this] { return listener_->connections().unopened == 2; }));
}

TEST_F(HttpTlsTest, ARequestThatDripsInIsCut) {
  const uint16_t port = Start({.limits = {.request_timeout = 200ms}});
  for (const std::string begin :
       {"GET /size HTTP/1.1\r\nX: ", "POST /echo HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"}) {
    TlsClient client = Opened(port);
    std::atomic<bool> cut = false;
    client.Send(begin);
    std::thread observer([&] { cut = AllAreGone(); });
    while (!cut && client.Send("x")) std::this_thread::yield();
    observer.join();
    EXPECT_TRUE(cut);
  }
}

TEST_F(HttpTlsTest, AClientThatDoesNotReadItsAnswerIsCut) {
  size_ = 64 << 20;
  TlsClient client = Opened(Start({.limits = {.request_timeout = 200ms}}));
  client.Send("GET /size HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(AllAreGone());
}

TEST_F(HttpTlsTest, AClientThatReadsItsAnswerInDripsIsCut) {
  size_ = 64 << 20;
  TlsClient client = Opened(Start({.limits = {.request_timeout = 200ms}}));
  client.Send("GET /size HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(Eventually([&] {
    char byte = 0;
    client.ReadSome(&byte, 1);  // of the records, for which the socket is what is slow
    return listener_->connections().open == 0;
  }));
}

TEST_F(HttpTlsTest, AnIdleConnectionIsClosed) {
  const uint16_t port = Start({.limits = {.idle_timeout = 100ms}});
  // A busy machine may leave a client idle for longer before its request.
  EXPECT_TRUE(Eventually([port] {
    TlsClient client(port);
    return client.Get("/size").status == 200 && client.AtEnd();
  }));
}

TEST_F(HttpTlsTest, AConnectionBeyondTheLimitIsClosed) {
  const uint16_t port = Start({.max_connections = 1});
  TlsClient first(port);
  ASSERT_EQ(first.Get("/size").status, 200);
  EXPECT_FALSE(TlsClient(port).open());
  EXPECT_EQ(listener_->connections().rejected, 1U);
  EXPECT_EQ(first.Get("/size").status, 200);
}

TEST_F(HttpTlsTest, StopIsPromptWhateverClientsDo) {
  size_ = 64 << 20;
  const uint16_t port = Start();
  HttpClient silent(port);
  HttpClient half(port);
  half.Send("\x16\x03\x01\x02");
  TlsClient idle(port);
  ASSERT_EQ(idle.Get("/nothing").status, 404) << "the server's handshake is done too";
  TlsClient never_reads(port);
  never_reads.Send("GET /size HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Eventually([this] { return listener_->connections().open == 4; }));
  const MonoTime begin = MonoNow();
  listener_->Stop();
  EXPECT_LT(MonoNow() - begin, 4s);  // what would hold it up are time limits of ten
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(idle.goodbye());
}

TEST_F(HttpTlsTest, AnotherCertificateTakesThePlaceOfTheFirst) {
  const uint16_t port = Start();
  TlsClient before(port);
  EXPECT_EQ(before.name(), "first");
  listener_->Secure(Identity("second").Load());
  EXPECT_EQ(TlsClient(port).name(), "second");
  EXPECT_EQ(before.Get("/size").status, 200) << "who is there stays";
}

TEST(TlsContext, FilesThatCannotBeUsedAreNamed) {
  const Identity good("good");
  const Identity other("other");
  const Identity locked("locked", 3600, "secret");
  const std::string empty = Place("empty.pem");
  std::ofstream(empty) << "";
  const std::string nonsense = Place("nonsense.pem");
  std::ofstream(nonsense) << "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n";
  const struct {
    std::string cert;
    std::string key;
    std::string where;
    std::string what;
  } cases[] = {
      {"/nowhere.pem", good.key, "/nowhere.pem", "cannot be read: No such file or directory"},
      {good.cert, "/nowhere.pem", "/nowhere.pem", "cannot be read: No such file or directory"},
      {testing::TempDir(), good.key, testing::TempDir(), "cannot be read: Is a directory"},
      {empty, good.key, empty, "cannot be used: no start line"},
      {nonsense, good.key, nonsense, "cannot be used: "},
      {good.key, good.key, good.key, "cannot be used: no start line"},
      {good.cert, empty, empty, "cannot be used: "},
      {good.cert, good.cert, good.cert, "cannot be used: "},
      {good.cert, locked.key, locked.key, "cannot be used: "},
      {good.cert, other.key, other.key, "is not the key of the certificate " + good.cert},
  };
  for (const auto& [cert, key, where, what] : cases) {
    const auto context = TlsContext::Load(cert, key);
    ASSERT_FALSE(context) << cert << " " << key;
    EXPECT_EQ(context.error().where, where);
    EXPECT_TRUE(context.error().what.starts_with(what)) << context.error().what;
    EXPECT_FALSE(context.error().expected.empty());
  }
}

TEST(TlsContext, WarnsOfAKeyThatOthersReadAndOfACertificateThatHasExpired) {
  const Identity good("good");
  EXPECT_TRUE(good.Load()->warnings().empty());
  ::chmod(good.key.c_str(), 0640);
  EXPECT_EQ(good.Load()->warnings(),
            std::vector<std::string>{good.key + ": others than its owner can open the private key; "
                                                "`chmod 600` mends that"});
  const Identity old("old", -3600);
  EXPECT_EQ(old.Load()->warnings(),
            std::vector<std::string>{old.cert + ": the certificate has expired"});
}

}  // namespace
}  // namespace conductor::serve
