using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Pandora.Cli.Ports;
using Pandora.Cli.Ssh;
using Pandora.Client;

namespace Pandora.Cli;

/// <summary>What the commands have in common.</summary>
internal static class Shared
{
    public static readonly Option<string> Url = new("--url")
    {
        Description = "The server (PANDORA_URL)",
        Recursive = true,
        DefaultValueFactory = _ => UsualUrl,
    };

    public static readonly Option<bool> Json = new("--json")
    {
        Description = "Print results as JSON on standard output, and errors as one JSON object on standard error",
        Recursive = true,
    };

    /// <summary>
    /// A client for the server that the user named; the key is taken from PANDORA_API_KEY, because command lines can be read by others, or
    /// from this host's <see cref="KeyFile"/>.
    /// </summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The client disposes the handler")]
    public static PandoraClient Connect(ParseResult result)
    {
        // A line that is being completed has no default values yet.
        var url = result.GetValue(Url) ?? UsualUrl;
        if (!Uri.TryCreate(url, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
        {
            throw new UsageException($"'{url}' is not an address such as http://127.0.0.1:8000");
        }

        var key = Environment.GetEnvironmentVariable("PANDORA_API_KEY");
        if (string.IsNullOrEmpty(key))
        {
            Failure? fault = null;
            key = KeyFile.IsLoopback(address) ? KeyFile.Read(address, out fault) : null;
            fault?.Print(result.GetValue(Json));
        }

        var options = new PandoraClientOptions
        {
            Url = address,
            ApiKey = key,
            // A command reports the server's answer at once; scripts decide whether to try again.
            MaxRetryTime = TimeSpan.Zero,
            KeepAlive = false,
        };
        try
        {
            // A proxy of the environment would get the key of this host, and lead to its own loopback addresses.
            return new PandoraClient(options, new SocketsHttpHandler { UseProxy = !KeyFile.IsLoopback(address) });
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message);
        }
    }

    private static string UsualUrl =>
        Environment.GetEnvironmentVariable("PANDORA_URL") is { Length: > 0 } url ? url : "http://127.0.0.1:8000";

    public static void PrintJson<T>(T value, JsonTypeInfo<T> type) => Console.WriteLine(JsonSerializer.Serialize(value, type));

    /// <summary>Splits <c>name=value</c> options.</summary>
    public static Dictionary<string, string> Pairs(string option, IEnumerable<string>? pairs) =>
        (pairs ?? [])
            .Select(p =>
                p.Split('=', 2) is [{ Length: > 0 } name, var value]
                    ? (name, value)
                    : throw new UsageException($"{option}: '{p}' is not name=value"))
            .GroupBy(p => p.name)
            .ToDictionary(g => g.Key, g => g.Last().value);

    /// <summary>A text of a client's or a guest's for this terminal, whose cursor it must not move.</summary>
    public static string Clean(string text) => new([.. text.Select(c => char.IsControl(c) ? ' ' : c)]);

    /// <summary>Refuses options that are not known where the parser would take them for ids.</summary>
    public static void RefuseOptions(Argument argument) => argument.Validators.Add(result =>
    {
        foreach (var token in result.Tokens.Where(t => t.Value.StartsWith('-')))
        {
            result.AddError($"there is no option '{token.Value}'");
        }
    });
}

/// <summary>JSON of what only this program prints.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(string[]))]
[JsonSerializable(typeof(ForwardedPort))]
[JsonSerializable(typeof(SshHost))]
internal sealed partial class CliJson : JsonSerializerContext;
