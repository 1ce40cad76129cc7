#ifndef CONDUCTOR_DAEMON_PROXY_ASIO_H_
#define CONDUCTOR_DAEMON_PROXY_ASIO_H_

// Boost.Asio as the proxy uses it; Debian 12's awaitable.hpp needs <utility> and does not include
// it.
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace conductor::proxy {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

template <typename T>
using Awaitable = net::awaitable<T>;

// co_await socket.async_x(..., Into(error)): errors are values.
[[nodiscard]] inline auto Into(error_code& error) {
  return net::redirect_error(net::use_awaitable, error);
}

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ASIO_H_
