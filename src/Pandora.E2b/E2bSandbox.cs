using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b;

/// <summary>What this front end keeps with a sandbox, in the sandbox's annotations.</summary>
internal static class E2bSandbox
{
    /// <summary>Name of the annotation with the token that opens the sandbox's agent.</summary>
    public const string TokenKey = "e2b.token";

    /// <summary>Name of the annotation with the token that opens the sandbox's other ports, or <see cref="PublicPorts"/>. Only sandboxes
    /// that were made through this front end have it: the ports of others stay those of previews.</summary>
    public const string PortsKey = "e2b.ports";

    /// <summary>Stands for no token: everybody may reach the ports.</summary>
    public const string PublicPorts = "public";

    /// <summary>Name of the annotation with the host that programs see; without it they see the client's.</summary>
    public const string MaskKey = "e2b.mask-host";

    /// <summary>Name of the annotation with the environment of all processes, JSON.</summary>
    public const string EnvironmentKey = "e2b.env";

    /// <summary>Version of E2B's agent whose features this front end has.</summary>
    public const string EnvdVersion = "0.6.4";

    /// <summary>Makes a new token.</summary>
    public static string NewToken() => Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(20));

    /// <summary>Whether a token is the wanted one. The time that it takes does not tell how much of it is right.</summary>
    public static bool IsToken(string shown, string wanted)
    {
        static byte[] Hash(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));
        return CryptographicOperations.FixedTimeEquals(Hash(shown), Hash(wanted));
    }

    /// <summary>The token that opens the sandbox's agent. A sandbox that another front end created gets one.</summary>
    public static async Task<string> TokenOfAsync(Sandbox sandbox, CancellationToken cancellationToken)
    {
        if (sandbox.Annotations.GetValueOrDefault(TokenKey) is null)
        {
            await sandbox.SetAnnotationAsync(TokenKey, NewToken(), cancellationToken, onlyIfMissing: true);
        }

        return sandbox.Annotations[TokenKey];
    }

    /// <summary>The token that opens the sandbox's other ports; null when they need none.</summary>
    public static string? TrafficTokenOf(Sandbox sandbox) =>
        sandbox.Annotations.GetValueOrDefault(PortsKey) is { } value && value != PublicPorts ? value : null;

    /// <summary>The environment that all processes of the sandbox have.</summary>
    public static Dictionary<string, string> EnvironmentOf(Sandbox sandbox)
    {
        var environment = sandbox.Annotations.GetValueOrDefault(EnvironmentKey) is { } json
            ? JsonSerializer.Deserialize(json, E2bJson.Default.DictionaryStringString)!
            : [];
        environment.TryAdd("E2B_SANDBOX", "true");
        environment.TryAdd("E2B_SANDBOX_ID", sandbox.Id);
        environment.TryAdd("E2B_TEMPLATE_ID", sandbox.Template);
        return environment;
    }
}
