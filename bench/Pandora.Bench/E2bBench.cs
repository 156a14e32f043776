using System.Globalization;
using System.Text.Json;
using Pandora.Linux;

namespace Pandora.Bench;

/// <summary>
/// What E2B's SDK costs on top of Pandora's own API: commands, files and creations, each in turn with the same of the own API, by one
/// program in Node. It needs Node 20 and npm.
/// </summary>
internal static class E2bBench
{
    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server, Target target)
    {
        if (await ClientsAsync(target) is not { } clients)
        {
            return [];
        }

        var output = await Command.RunAsync(
            "node", [Path.Combine(target.Repository, "bench/Pandora.Bench/e2b.mjs"), clients, server.Url],
            environment: new Dictionary<string, string>
            {
                ["E2B_API_URL"] = $"{server.Url}/e2b",
                ["E2B_SANDBOX_URL"] = $"{server.Url}/e2b",
                // Of the form that older SDKs demand; the server needs none.
                ["E2B_API_KEY"] = $"e2b_{new string('0', 40)}",
            });
        var medians = JsonSerializer.Deserialize<Dictionary<string, double>>(output)!;
        var (run, ownRun, write, ownWrite) = (medians["sdkRun"], medians["ownRun"], medians["sdkWrite"], medians["ownWrite"]);
        return
        [
            new(
                "command by E2B's SDK / the same program by our API, p50", run / ownRun, "×", 1.15,
                string.Create(CultureInfo.InvariantCulture, $"{run:0.0} / {ownRun:0.0} ms")),
            new(
                "creation by E2B's SDK minus ours, p50", medians["sdkCreate"] - medians["ownCreate"], "ms", 10,
                string.Create(CultureInfo.InvariantCulture, $"{medians["sdkCreate"]:0.0} and {medians["ownCreate"]:0.0} ms")),
            new(
                "100 MB by E2B's SDK, time / our PUT's", write / ownWrite, "×", 1.25,
                string.Create(CultureInfo.InvariantCulture, $"{write:0} / {ownWrite:0} ms, median of 3")),
        ];
    }

    // Null when they cannot be installed here.
    private static async Task<string?> ClientsAsync(Target target)
    {
        var clients = Path.Combine(target.Repository, "artifacts/e2b-clients");
        if (Directory.Exists(Path.Combine(clients, "node_modules")))
        {
            return clients;
        }

        try
        {
            Directory.CreateDirectory(clients);
            var from = Path.Combine(target.Repository, "tests/Pandora.E2bTests/clients");
            const string Install = "cp \"$1\"/package*.json \"$2\" && cd \"$2\" && npm ci --ignore-scripts --no-audit --no-fund";
            await Command.RunAsync("sh", ["-c", Install, "sh", from, clients]);
            return clients;
        }
        catch (CommandException e)
        {
            Console.Error.WriteLine($"E2B's clients could not be installed: {e.Message}");
            return null;
        }
    }
}
