#include "daemon/proxy/admin_key.h"

#include <openssl/crypto.h>

#include <string>
#include <string_view>

namespace conductor::proxy {
namespace {

bool SameSecret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view GivenKey(const Fields& fields) {
  std::string_view given = fields.Get("X-Api-Key");
  if (!given.empty()) return given;
  given = fields.Get("Authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (given.starts_with(kBearer)) given.remove_prefix(kBearer.size());
  return given;
}

}  // namespace

Awaitable<bool> IsAdmin(Request& request) {
  const std::string& key = request.shared.options.admin_key;
  if (!key.empty() && SameSecret(GivenKey(request.asked.head.fields), key)) co_return true;
  const std::string message =
      key.empty() ? "no admin key is set: start the proxy with --admin-key-file, or ADMIN_API_KEY "
                    "in its environment"
                  : "X-Api-Key is not the admin key";
  co_await AnswerError(request, key.empty() ? 403 : 401, "authentication_error", message);
  co_return false;
}

}  // namespace conductor::proxy
