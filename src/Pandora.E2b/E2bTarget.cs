using System.Globalization;
using Microsoft.AspNetCore.Http;

namespace Pandora.E2b;

/// <summary>What a request of an E2B client is for: a sandbox's port, or the control API when there is no sandbox.</summary>
/// <param name="Path">Path of the request below <c>/e2b</c>, or as it is under a host name.</param>
/// <param name="SandboxId">Id of the sandbox, as the client named it; null for the control API.</param>
/// <param name="Port">The port.</param>
/// <param name="IsByHost">Whether the host name names the sandbox, and not the headers.</param>
internal sealed record E2bTarget(PathString Path, string? SandboxId = null, int Port = 0, bool IsByHost = false)
{
    /// <summary>Whether the path began with <see cref="Prefix"/>.</summary>
    public bool IsByPath { get; init; }

    /// <summary>Where the control API is served.</summary>
    public const string Prefix = "/e2b";

    /// <summary>The port behind which E2B's clients expect the guest's agent.</summary>
    public const int AgentPort = 49983;

    private const string Local = "localhost";

    /// <summary>Reads what a request is for; null when it is not one of an E2B client.</summary>
    /// <param name="request">The request.</param>
    /// <param name="domain">The domain of host names, in lower case.</param>
    public static E2bTarget? Of(HttpRequest request, string domain)
    {
        var name = request.Host.Host.ToLowerInvariant().TrimEnd('.');
        foreach (var suffix in new[] { domain, Local })
        {
            if (name == $"api.{suffix}")
            {
                return OfHeaders(request, request.Path) ?? new E2bTarget(request.Path);
            }

            if (name == $"sandbox.{suffix}" && OfHeaders(request, request.Path) is { } named)
            {
                return named;
            }

            if (name.EndsWith($".{suffix}", StringComparison.Ordinal) && OfLabel(name[..^(suffix.Length + 1)]) is var (port, id))
            {
                return new E2bTarget(request.Path, id, port, IsByHost: true);
            }
        }

        // Below a host of a preview, the path is the guest's: that was decided above.
        return request.Path.StartsWithSegments(Prefix, StringComparison.Ordinal, out var rest)
            ? (OfHeaders(request, rest) ?? new E2bTarget(rest)) with { IsByPath = true }
            : null;
    }

    private static E2bTarget? OfHeaders(HttpRequest request, PathString path)
    {
        if (request.Headers["E2b-Sandbox-Id"].ToString() is not { Length: > 0 } id)
        {
            return null;
        }

        var port = request.Headers["E2b-Sandbox-Port"].ToString();
        return new E2bTarget(path, id, port.Length == 0 ? AgentPort : ParsePort(port) ?? 0);
    }

    // {port}-{id}, and what follows another hyphen is ignored.
    private static (int Port, string Id)? OfLabel(string label) =>
        !label.Contains('.') && label.Split('-') is [var port, { Length: > 0 } id, ..] && id.All(char.IsAsciiLetterOrDigit)
            && ParsePort(port) is { } number
            ? (number, id)
            : null;

    private static int? ParsePort(string text) =>
        text is [not '0', ..] && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port <= 65_535
            ? port
            : null;
}
