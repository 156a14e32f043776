using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.E2bTests;

/// <summary>A server that E2B's clients reach by host names and TLS, with the certificate that <c>tls init</c> makes.</summary>
public sealed class ServerWithNames : ServerOfClients
{
    private const string Domain = "sandbox.test", ShownDomain = $"{Domain}:8443";
    private static readonly string Program = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server");
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;

    internal override IReadOnlyList<string> NodeArguments => ["--import", Path.Combine(ScenarioFile.Directory, "names.mjs")];

    internal override Dictionary<string, string> Environment => new()
    {
        ["E2B_API_KEY"] = base.Environment["E2B_API_KEY"],
        ["E2B_DOMAIN"] = ShownDomain,
        ["NODE_EXTRA_CA_CERTS"] = PathOf("ca.crt"),
    };

    internal override Dictionary<string, string> Settings => new(base.Settings)
    {
        ["PANDORA_LISTEN"] = "https://127.0.0.1:8443",
        ["PANDORA_PREVIEW_DOMAIN"] = ShownDomain,
        ["PANDORA_TLS_CERTIFICATE"] = PathOf("crt"),
        ["PANDORA_TLS_KEY"] = PathOf("key"),
    };

    public override async ValueTask DisposeAsync()
    {
        try
        {
            await base.DisposeAsync();
        }
        finally
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    internal override async Task PrepareAsync()
    {
        await base.PrepareAsync();
        await Command.RunAsync(
            Program, ["tls", "init", "--domain", Domain],
            environment: new Dictionary<string, string> { ["PANDORA_DATA_DIR"] = _directory });
    }

    private string PathOf(string ending) => Path.Combine(_directory, "tls", $"{Domain}.{ending}");
}
