#ifndef CONDUCTOR_DAEMON_TOOLKIT_ENDPOINT_TEXT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_ENDPOINT_TEXT_H_

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::toolkit {

// ZeroMQ addresses as command lines name them. What is wrong with one is a matter of usage, and
// told before anything is tried; errors say what to write instead.

// Whether a word is an address ("tcp://a:5557") and no file.
[[nodiscard]] bool IsAddress(std::string_view word);
// Whether it is "HOST:PORT", which is an address that lacks its scheme where it is no file.
[[nodiscard]] bool LacksScheme(std::string_view word);

// One to connect to.
[[nodiscard]] Status CheckDialled(const std::string& text);
// One to listen at: "tcp://*:5557", an IP address or the name of an interface ("tcp://eth0:5557"),
// or ipc. A port '*' is one that is free.
[[nodiscard]] Status CheckBound(const std::string& text);

// A file as an argument of the command line. What looks like an address without its scheme is told
// as such; any other file that is missing is left to who opens it, for it is no matter of usage.
[[nodiscard]] Status CheckNoAddress(const std::string& word);

// What an instance is called of which nothing but its address is known: "10.0.0.1:5557" of
// "tcp://10.0.0.1:5557", a path of ipc. '|' separates the parts of a publisher's key and becomes
// '_'. Never empty.
[[nodiscard]] std::string InstanceAt(std::string_view endpoint);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_ENDPOINT_TEXT_H_
