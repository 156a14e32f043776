using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Tests.Docs;

/// <summary>Generates <c>docs/configuration.md</c> from the options classes and their comments.</summary>
public sealed class ConfigurationTests
{
    private static readonly Dictionary<string, string> Variables =
        Settings.Known().ToDictionary(p => p.Name, Settings.VariableOf, StringComparer.Ordinal);

    [Fact]
    public void The_page_in_the_repository_agrees_with_the_code() => GeneratedPage.Check("docs/configuration.md", Write());

    private static string Write()
    {
        var page = new StringBuilder("""
            # Configuration

            A test makes this page from the code (`ConfigurationTests`, with `MAKE_REFERENCE=1` in its environment): change it there.

            A setting is an environment variable, or a member of `Pandora` in `/etc/pandora/appsettings.json`; the environment takes
            precedence. `PANDORA_POOL_SIZE=8` is the same as `{"Pandora": {"PoolSize": 8}}`. The server checks all settings when it starts,
            and does not start with an unknown or invalid one. `./pandora config` shows every setting with its value and its source.

            """);
        Describe<EngineOptions>(page, "Sandboxes, pools, network and disk", "src/Pandora.Engine/EngineOptions.cs");
        Describe<VmmOptions>(page, "The VMM", "src/Pandora.Vmm/VmmOptions.cs");
        Describe<ServerOptions>(page, "The HTTP server", "src/Pandora.Server/Hosting/ServerOptions.cs");
        page.Append("""

            ## The script and the command line

            | variable | default | meaning |
            |---|---|---|
            | `PANDORA_URL` | `http://127.0.0.1:8000` | The server that the commands call. |
            | `PANDORA_API_KEY` | | The key that they send. Without it: `cli.key` of the data directory, to loopback only. |
            | `PANDORA_LOG` | `/var/log/pandora.log` | The log of a server started with `./pandora up --detach`. |

            """);
        return page.ToString();
    }

    private static void Describe<T>(StringBuilder page, string title, string source)
        where T : new()
    {
        page.AppendLine(CultureInfo.InvariantCulture, $"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|");
        var defaults = new T();
        foreach (var property in Settings.Known().Where(p => p.DeclaringType == typeof(T)))
        {
            var meaning = SourceComment.Of(source, $@"(?:\[[^\n]*\n\s*)*public [\w?.]+ {property.Name} {{", $"class {typeof(T).Name}");
            page.AppendLine(
                CultureInfo.InvariantCulture,
                $"| `{Settings.VariableOf(property)}` | {DefaultOf(property, defaults)} | {NameVariables(meaning)} |");
        }
    }

    private static string DefaultOf(PropertyInfo property, object? options) => property.GetValue(options) switch
    {
        null or "" => "",
        bool value => value ? "`true`" : "`false`",
        Enum value => $"`{value.ToString().ToLowerInvariant()}`",
        var value => string.Create(CultureInfo.InvariantCulture, $"`{value}`"),
    };

    private static string NameVariables(string text) =>
        Regex.Replace(text, @"`(?<name>\w+)`", m => Variables.TryGetValue(m.Groups["name"].Value, out var name) ? $"`{name}`" : m.Value);
}
