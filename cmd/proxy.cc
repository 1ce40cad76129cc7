#include "daemon/proxy/proxy.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/subcommands.h"
#include "daemon/proxy/demo.h"
#include "lib/base/log.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Environment: OPENAI_API_KEY is sent to engines, ADMIN_API_KEY guards /instances,
  CONDUCTOR_LOG_LEVEL is as --log-level.

Examples:
  conductor proxy --demo
  conductor proxy --prefiller-hosts p1 p2 --prefiller-ports 8100 \
      --decoder-host d1 --decoder-port 8200 --conductor-address c1:13333
  conductor proxy --engine-endpoints 10.0.0.1:8000 10.0.0.2:8000

Exit codes: 0 ended by a signal, 1 failed, 2 usage. See conductor-proxy(1).)";

// What the flags say, before it is brought together.
struct Flags {
  std::string config;
  proxy::EngineLists prefillers;
  proxy::EngineLists decoders;
  std::vector<std::string> unified;
  std::vector<std::string> registrations;
  std::vector<std::string> conductors;
  std::string log_level;
  bool demo = false;
  uint64_t demo_seed = 1;
  // Of the file are read first, so that flags win.
  std::vector<std::function<Status(proxy::ProxyOptions&)>> given;
};

std::string Environment(const char* name) {
  // No thread changes the environment.
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// A flag whose text `read` puts into the options.
template <typename Read>
CLI::Option* AddText(CLI::App& app, const std::shared_ptr<Flags>& flags, const std::string& names,
                     const std::string& shape, const std::string& help, Read read) {
  const std::string flag = names.substr(0, names.find(','));
  const auto check = [read](const std::string& text) {
    proxy::ProxyOptions scratch;
    return read(text, scratch);
  };
  CLI::Option* option = app.add_option_function<std::string>(
      names,
      [flags, flag, read, check](const std::string& text) {
        if (const Status set = check(text); !set) {
          throw CLI::ValidationError(flag, set.error().Message());
        }
        flags->given.emplace_back(
            [text, read](proxy::ProxyOptions& options) { return read(text, options); });
      },
      help);
  return OfferExpected(option->type_name(shape)->take_last(), check);
}

template <typename Slot>
auto Text(Slot slot) {
  return [slot](const std::string& text, proxy::ProxyOptions& options) -> Status {
    if (text.empty()) return Fail("is empty");
    slot(options) = text;
    return {};
  };
}

template <typename Slot>
auto Number(Slot slot, uint64_t min, uint64_t max) {
  return [slot, min, max](const std::string& text, proxy::ProxyOptions& options) -> Status {
    const auto number = ParseNumber(text, "a number", min, max);
    if (!number) return tl::unexpected(number.error());
    auto& target = slot(options);
    target = static_cast<std::remove_reference_t<decltype(target)>>(*number);
    return {};
  };
}

// Seconds, as the Mooncake Conductor's example has them.
template <typename Slot>
auto Seconds(Slot slot) {
  return [slot](const std::string& text, proxy::ProxyOptions& options) -> Status {
    const auto time = ParseDuration(text + "s");
    if (!time || *time <= Duration(0)) {
      return Fail(fmt::format("'{}' is no time", text), {}, "seconds above 0");
    }
    slot(options) = *time;
    return {};
  };
}

CLI::Option* AddList(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                     const std::string& shape, const std::string& help) {
  return app.add_option(names, target, help)->type_name(shape)->expected(1, -1);
}

void AddEngineFlags(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  AddList(app, "--prefiller-hosts,--prefiller-host", flags->prefillers.hosts, "HOST",
          "engines that prefill [localhost]");
  AddList(app, "--prefiller-ports,--prefiller-port", flags->prefillers.ports, "PORT",
          "their ports, by their places [8100]");
  AddList(app, "--decoder-hosts,--decoder-host", flags->decoders.hosts, "HOST",
          "engines that decode [localhost]");
  AddList(app, "--decoder-ports,--decoder-port", flags->decoders.ports, "PORT",
          "their ports, by their places [8200]");
  AddList(app, "--engine-endpoints,--engine-endpoint", flags->unified, "ADDRESS",
          "engines that do both, in place of the four above");
  AddList(app, "--prefiller-endpoints,--prefiller-endpoint,--prefill", flags->prefillers.endpoints,
          "ADDRESS", "HOST:PORT of engines that prefill [BOOTSTRAP_PORT|none]")
      ->group(kHidden);
  AddList(app, "--decoder-endpoints,--decoder-endpoint,--decode", flags->decoders.endpoints,
          "ADDRESS", "HOST:PORT of engines that decode")
      ->group(kHidden);
  AddList(app, "--prefiller-bootstrap-ports,--prefiller-bootstrap-port",
          flags->prefillers.bootstrap_ports, "PORT", "of each, by their places; or none")
      ->group(kHidden);
  AddList(app, "--prefiller-instance-ids,--prefiller-instance-id", flags->prefillers.instance_ids,
          "ID", "what the conductor calls them")
      ->group(kHidden);
  AddList(app, "--prefiller-names,--prefiller-name", flags->prefillers.instance_ids, "ID",
          "the same")
      ->group(kHidden);
  app.add_option("--prefiller-registration,--prefill-registration", flags->registrations,
                 "ID RANK ENDPOINT: register this publisher")
      ->type_name("WORDS")
      ->type_size(3)
      ->expected(1, -1)
      ->group(kHidden);
}

void AddConductorFlags(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  AddList(app, "--conductor-address", flags->conductors, "ADDRESS",
          "conductors to ask: HOST:PORT, or a URL");
  using O = proxy::ProxyOptions;
  AddText(app, flags, "--model,--modelname", "NAME", "the model, as the conductor has it",
          Text([](O & o) -> auto& { return o.prompts.model; }));
  AddText(app, flags, "--tenant-id", "NAME", "the tenant [default]",
          Text([](O & o) -> auto& { return o.prompts.tenant; }))
      ->group(kHidden);
  AddText(app, flags, "--lora-name", "NAME", "the adapter",
          Text([](O & o) -> auto& { return o.prompts.lora_name; }))
      ->group(kHidden);
  AddText(app, flags, "--block-size", "N", "tokens of a block, where publishers are registered",
          Number(
              [](O & o) -> auto& { return o.prompts.block_size; }, 0, INT32_MAX))
      ->group(kHidden);
  Offer(AddText(app, flags, "--hash-algorithm,--hash-algo,--prefix-caching-hash-algo", "NAME",
                "of registered publishers: sha256 or sha256_cbor",
                Text([](O & o) -> auto& { return o.prompts.hash_algorithm; })),
        {"sha256", "sha256_cbor"})
      ->group(kHidden);
  AddText(app, flags, "--python-hash-seed", "SEED", "of registered publishers",
          Text([](O & o) -> auto& { return o.prompts.python_hash_seed; }))
      ->group(kHidden);
  AddText(app, flags, "--query-timeout-seconds", "X", "--query-timeout in seconds",
          Seconds([](O & o) -> auto& { return o.query_timeout; }))
      ->group(kHidden);
  AddText(app, flags, "--registration-timeout-seconds", "X", "--registration-timeout in seconds",
          Seconds([](O & o) -> auto& { return o.registration_timeout; }))
      ->group(kHidden);
  AddText(app, flags, "--publishers", "FILE", "with --embedded: publishers, as serve's --config",
          Text([](O & o) -> auto& { return o.publishers_file; }))
      ->group(kHidden);
}

void AddSettings(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  for (const proxy::ProxySetting& setting : proxy::ProxySettings()) {
    const std::string value = setting.show({});
    AddText(app, flags, fmt::format("--{}", setting.name), std::string(setting.shape),
            value.empty() ? std::string(setting.help) : fmt::format("{} [{}]", setting.help, value),
            [&setting](const std::string& text, proxy::ProxyOptions& options) {
              return setting.set(text, options);
            })
        ->group(setting.common ? "Options" : kHidden);
  }
}

template <typename Slot>
void AddSwitch(CLI::App& app, const std::shared_ptr<Flags>& flags, const std::string& name,
               const std::string& help, bool common, Slot slot) {
  app.add_flag_callback(
         name,
         [flags, slot] {
           flags->given.emplace_back([slot](proxy::ProxyOptions& options) -> Status {
             slot(options) = true;
             return {};
           });
         },
         help)
      ->group(common ? "Options" : kHidden);
}

void AddOthers(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  using O = proxy::ProxyOptions;
  AddSwitch(
      app, flags, "--embedded", "an index of its own in place of a conductor", true,
      [](O & o) -> auto& { return o.embedded; });
  AddText(app, flags, "--access-log", "FILE", "a line of JSON for each request; -: stdout",
          Text([](O & o) -> auto& { return o.access_log; }));
  AddText(app, flags, "--admin-key-file", "FILE", "the key for /instances/* and the caches",
          [](const std::string& path, O& options) -> Status {
            std::ifstream file(path);
            if (!file || !std::getline(file, options.admin_key) || options.admin_key.empty()) {
              return Fail("cannot be read, or has no key in its first line", path);
            }
            return {};
          })
      ->group(kHidden);
  AddText(app, flags, "--metaserver", "URL", "where decoders of ascend-layerwise call back",
          Text([](O & o) -> auto& { return o.choreography.metaserver; }))
      ->group(kHidden);
  AddSwitch(
      app, flags, "--prefill-required", "without a prefiller 502, and no decode alone", false,
      [](O & o) -> auto& { return o.prefill_required; });
  AddSwitch(
      app, flags, "--override-remote-host", "decoders fetch from the host that is named here",
      false, [](O & o) -> auto& { return o.choreography.override_remote_host; });
  OfferExpected(app.add_option("--log-level", flags->log_level, "DEBUG, INFO, WARN or ERROR [INFO]")
                    ->type_name("LEVEL"),
                log::ParseLevel);
  app.add_flag_callback(
         "--help-all",
         [&app] {
           for (CLI::Option* option : app.get_options()) {
             if (option->get_group() == kHidden) option->group(kMore);
           }
           throw CLI::CallForHelp();
         },
         "print this help with all other flags")
      ->trigger_on_parse();
}

void AddDemo(CLI::App& app, Flags& flags) {
  app.add_flag("--demo", flags.demo, "a simulated fleet, beside one with round-robin");
  AddNumberFlag(app, "--demo-seed", flags.demo_seed, "a seed", 0, UINT64_MAX,
                "seed of its workload [1]")
      ->group(kHidden);
}

// The file first, then the flags.
Result<proxy::ProxyOptions> OptionsOf(const Flags& flags) {
  proxy::ProxyOptions options;
  options.admin_key = Environment("ADMIN_API_KEY");
  options.api_key = Environment("OPENAI_API_KEY");
  if (!flags.config.empty()) {
    if (const auto read = proxy::ReadProxyFile(flags.config, options); !read) {
      return tl::unexpected(read.error());
    }
  }
  for (const auto& set : flags.given) {
    if (const auto done = set(options); !done) return tl::unexpected(done.error());
  }
  auto prefillers = proxy::EnginesOf(flags.prefillers, "prefiller", 8100);
  if (!prefillers) return tl::unexpected(prefillers.error());
  auto decoders = proxy::EnginesOf(flags.decoders, "decoder", 8200);
  if (!decoders) return tl::unexpected(decoders.error());
  proxy::EngineLists both;
  both.endpoints = flags.unified;
  both.instance_ids =
      prefillers->empty() ? flags.prefillers.instance_ids : std::vector<std::string>();
  auto unified = proxy::EnginesOf(both, "engine", 8000);
  if (!unified) return tl::unexpected(unified.error());
  if (!unified->empty() && (!prefillers->empty() || !decoders->empty())) {
    return Fail("stand beside prefillers or decoders", "--engine-endpoints",
                "the one or the other");
  }
  if (!unified->empty()) prefillers = std::move(unified);
  const bool has_topology = !prefillers->empty() || !decoders->empty();
  if (has_topology && (!options.prefillers.empty() || !options.decoders.empty())) {
    return Fail("engines are named by flags and by the file", flags.config, "the one or the other");
  }
  if (has_topology) {
    options.prefillers = *std::move(prefillers);
    options.decoders = *std::move(decoders);
  }
  if (const auto added = proxy::AddRegistrations(flags.registrations, options.prefillers); !added) {
    return tl::unexpected(added.error());
  }
  if (!flags.conductors.empty()) options.conductors.clear();
  for (const std::string& text : flags.conductors) {
    auto url = proxy::ConductorAddress(text);
    if (!url) return tl::unexpected(std::move(url.error()).Within("--conductor-address"));
    options.conductors.push_back(*std::move(url));
  }
  if (const auto checked = proxy::CheckOptions(options); !checked) {
    return tl::unexpected(checked.error());
  }
  return options;
}

// The address is the one thing that a demo takes from flags that are not its own.
proxy::DemoOptions DemoOptionsOf(const Flags& flags) {
  proxy::ProxyOptions address;
  for (const auto& set : flags.given) (void)set(address);
  return {address.host, address.port, flags.demo_seed};
}

// A demo has a fleet of its own: what else was said would be said in vain.
void CheckDemo(const CLI::App& app, const Flags& flags) {
  const std::set<std::string> with = {"--demo", "--demo-seed", "--host", "--port", "--log-level"};
  for (const CLI::Option* const option : app.get_options()) {
    if (option->count() == 0) continue;
    // get_name() says nothing of those that the short help leaves out.
    const std::string name = "--" + option->get_lnames().front();
    if (flags.demo && !with.contains(name)) {
      throw CLI::ValidationError(
          name,
          "is not for --demo, which has a simulated fleet of its own; --host, --port, "
          "--demo-seed and --log-level are");
    }
    if (!flags.demo && name == "--demo-seed") {
      throw CLI::ValidationError(name, "is for --demo");
    }
  }
}

int RunWith(const Flags& flags) {
  const std::string level_text =
      flags.log_level.empty() ? Environment("CONDUCTOR_LOG_LEVEL") : flags.log_level;
  if (!level_text.empty()) {
    const auto level = log::ParseLevel(level_text);
    if (!level) {
      fmt::print(stderr, "conductor: {}\n", Error(level.error()).Within("--log-level").Message());
      return 2;
    }
    log::SetLevel(*level);
  }
  if (flags.demo) return proxy::RunDemo(DemoOptionsOf(flags));
  const auto options = OptionsOf(flags);
  if (!options) {
    fmt::print(stderr, "conductor: {}\nRun 'conductor proxy --help' for what there is.\n",
               options.error().Message());
    return 2;
  }
  return proxy::RunProxy(*options);
}

}  // namespace

void AddProxy(CLI::App& app, Run& run) {
  const auto flags = std::make_shared<Flags>();
  CLI::App& proxy =
      *app.add_subcommand("proxy", "Serve completions over prefill and decode engines");
  proxy.footer(kFooter);
  proxy.formatter(std::make_shared<HelpFormatter>());
  proxy.add_option("--config", flags->config, "read FILE; flags win over it")->type_name("FILE");
  using O = proxy::ProxyOptions;
  AddText(proxy, flags, "--host", "HOST", "address to listen on [127.0.0.1]",
          Text([](O & o) -> auto& { return o.host; }));
  AddText(proxy, flags, "--port", "N", "port to listen on [8000]; 0: a free one",
          Number(
              [](O & o) -> auto& { return o.port; }, 0, 65535));
  AddEngineFlags(proxy, flags);
  AddConductorFlags(proxy, flags);
  AddSettings(proxy, flags);
  AddDemo(proxy, *flags);
  AddOthers(proxy, flags);
  proxy.final_callback([flags, &proxy, &run] {
    CheckDemo(proxy, *flags);
    run = [flags] { return RunWith(*flags); };
  });
}

}  // namespace conductor::cmd
