#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/subcommands.h"
#include "daemon/serve/daemon.h"
#include "lib/base/log.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Times are like 500ms, 5s, 15m; sizes like 65536, 512k, 64m.

Environment (flags come first, then these, then the file):
  CONDUCTOR_CONFIG_PATH  the configuration file
  CONDUCTOR_LOG_LEVEL    as --log-level

Examples:
  conductor serve --demo
  conductor serve --config conductor.json --strict
  conductor serve --host 0.0.0.0 --port 13333 --log-level WARN

Exit codes: 0 ended by a signal, 1 failed, 2 usage. See conductor-serve(1).)";

Result<std::string> ParseLogLevel(const std::string& text) {
  return log::ParseLevel(text).map([&](log::Level) { return text; });
}

Result<std::string> ParseQueryEndpoint(const std::string& text) {
  return serve::CheckQueryAddress(text).map([&] { return text; });
}

Result<std::string> ParseHost(const std::string& text) {
  if (text.empty()) return Fail("is empty", {}, "a name or an address to listen on");
  return text;
}

void AddSetting(CLI::App& serve, const serve::Setting& setting, serve::ServeOptions& options) {
  const std::string flag = fmt::format("--{}", setting.name);
  const std::string value = setting.Show({});
  const auto check = [&setting](const std::string& text) {
    serve::Limits scratch;
    return setting.Set(text, scratch);
  };
  CLI::Option* option = serve.add_option_function<std::string>(
      flag,
      [&setting, &options, flag, check](const std::string& text) {
        if (auto set = check(text); !set) throw CLI::ValidationError(flag, set.error().Message());
        options.settings.emplace_back(&setting, text);
      },
      value.empty() ? std::string(setting.help) : fmt::format("{} [{}]", setting.help, value));
  option->type_name(std::string(setting.Shape()))->group(setting.common ? "Options" : kHidden);
  OfferExpected(option, check);
}

void AddHelpAll(CLI::App& serve) {
  serve
      .add_flag_callback(
          "--help-all",
          [&serve] {
            for (CLI::Option* option : serve.get_options()) {
              if (option->get_group() == kHidden) option->group(kMore);
            }
            throw CLI::CallForHelp();
          },
          "print this help with all limits and times")
      ->trigger_on_parse();
}

}  // namespace

void AddServe(CLI::App& app, Run& run) {
  const auto options = std::make_shared<serve::ServeOptions>();
  CLI::App& serve = *app.add_subcommand("serve", "Run the daemon");
  serve.footer(kFooter);
  serve.formatter(std::make_shared<HelpFormatter>());
  serve
      .add_option("--config", options->config_path, "read FILE [~/.mooncake/conductor_config.json]")
      ->type_name("FILE");
  AddFlag(serve, "--host", options->host, ParseHost, "HOST", "address to listen on [127.0.0.1]");
  AddNumberFlag(serve, "--port", options->port, "a port", 0, 65535,
                "port to listen on [13333]; 0: a free one");
  AddFlag(serve, "--query-endpoint", options->query_endpoint, ParseQueryEndpoint, "ADDRESS",
          "answer queries over ZeroMQ too: tcp://127.0.0.1:13334");
  OfferExpected(AddFlag(serve, "--log-level", options->log_level, ParseLogLevel, "LEVEL",
                        "DEBUG, INFO, WARN or ERROR [INFO]"),
                ParseLogLevel);
  serve.add_flag("--strict", options->strict, "a broken entry of the file is fatal");
  serve.add_flag("--demo", options->demo, "run a simulated fleet beside the daemon; no file");
  AddNumberFlag(serve, "--demo-seed", options->demo_seed, "a seed", 0, UINT64_MAX,
                "seed of the simulated fleet [1]");
  for (const serve::Setting& setting : serve::AllSettings()) AddSetting(serve, setting, *options);
  AddHelpAll(serve);
  serve.final_callback([options, &run] { run = [options] { return serve::RunServe(*options); }; });
}

}  // namespace conductor::cmd
