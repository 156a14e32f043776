using System.Net;
using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Control;

/// <summary>Translates what clients write about networks.</summary>
internal static class Networks
{
    private const string Everything = "0.0.0.0/0";

    /// <summary>What a sandbox may reach; null for what it usually may.</summary>
    /// <param name="network">What the client asks for.</param>
    /// <param name="allowsInternet">Whether the client asks for the internet; null when it does not say.</param>
    /// <exception cref="PandoraException">It asks for what this server cannot do.</exception>
    public static EgressPolicy? PolicyOf(Network? network, bool? allowsInternet)
    {
        Refuse(network);
        var (allow, deny) = (network?.AllowOut ?? [], network?.DenyOut ?? []);
        // Older clients ask for the internet each time: they mean what a sandbox usually gets.
        if (allow.Length == 0 && deny.Length == 0 && allowsInternet != false)
        {
            return null;
        }

        var none = allowsInternet == false || deny.Contains(Everything);
        return new EgressPolicy(none ? Egress.None : Egress.Internet)
        {
            Allow = [.. allow.Select(a => RangeOf(a, "network.allowOut"))],
            Deny = [.. deny.Where(d => d != Everything).Select(d => RangeOf(d, "network.denyOut"))],
        };
    }

    /// <summary>The policy as clients see it.</summary>
    public static ShownNetwork Show(Sandbox sandbox)
    {
        var policy = sandbox.Status.Egress;
        string[] all = policy.Default == Egress.None ? [Everything] : [];
        return new ShownNetwork(
            [.. policy.Allow.Select(r => $"{r}")],
            [.. all, .. policy.Deny.Select(r => $"{r}")],
            sandbox.Annotations.GetValueOrDefault(E2bSandbox.PortsKey) == E2bSandbox.PublicPorts,
            sandbox.Annotations.GetValueOrDefault(E2bSandbox.MaskKey));
    }

    private static Ipv4Network RangeOf(string text, string field)
    {
        if (text is null)
        {
            throw PandoraException.Invalid(field, "must be texts, and one is null");
        }

        if (Ipv4Network.TryParse(text.Contains('/') ? text : $"{text}/32", out var range))
        {
            return range;
        }

        var isAddress = IPAddress.TryParse(text.Split('/')[0], out _);
        throw PandoraException.Invalid(
            field,
            isAddress
                ? $"'{text}' is no IPv4 address or range; guests have no IPv6"
                : $"'{text}' is a name: this server can allow addresses and ranges, and no domains");
    }

    private static void Refuse(Network? network)
    {
        foreach (var (field, value) in new[]
        {
            ("egressProxy", network?.EgressProxy), ("rules", network?.Rules), ("httpsPorts", network?.HttpsPorts),
        })
        {
            if (value is { ValueKind: not JsonValueKind.Null and not JsonValueKind.Undefined } given
                && !(given.ValueKind == JsonValueKind.Object && !given.EnumerateObject().Any())
                && !(given.ValueKind == JsonValueKind.Array && given.GetArrayLength() == 0))
            {
                throw PandoraException.Invalid($"network.{field}", "this server does not support it: leave it out");
            }
        }
    }
}
