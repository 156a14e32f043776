using System.CommandLine;
using System.Text.Json;
using Pandora.Server.Hosting;

namespace Pandora.Server.Commands;

/// <summary><c>config</c>: lists every setting with its value and the source of the value.</summary>
internal static class ConfigCommand
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "Print JSON" };
        var command = new Command("config", "Show every setting with its value and the source of the value") { json };
        command.SetAction(result =>
        {
            var settings = Settings.List(Settings.File());
            if (result.GetValue(json))
            {
                Console.WriteLine(
                    JsonSerializer.Serialize(settings.ToDictionary(s => s.Variable, s => new { value = s.Value, source = s.Source })));
                return;
            }

            foreach (var setting in settings)
            {
                Console.WriteLine($"{setting.Variable,-36} {(setting.Value.Length == 0 ? "-" : setting.Value),-34} {setting.Source}");
            }
        });
        return command;
    }
}
