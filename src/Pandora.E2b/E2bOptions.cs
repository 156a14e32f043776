using Microsoft.AspNetCore.Http;

namespace Pandora.E2b;

/// <summary>What the E2B front end needs from the server that it is part of.</summary>
/// <param name="Domain">Domain of host names such as <c>api.DOMAIN</c>, without a port, in lower case.</param>
/// <param name="ShownDomain">The same with the port that clients connect to, where it is not the usual one.</param>
public sealed record E2bOptions(string Domain, string ShownDomain)
{
    /// <summary>Records that a request has shown the token of a sandbox: its connection is one of a client. The token is the time for which
    /// that holds.</summary>
    public required Action<HttpContext, CancellationToken> Admit { get; init; }

    /// <summary>Records that a request passed to a port that everybody may reach.</summary>
    public required Action<HttpContext> Serve { get; init; }

    /// <summary>Opens the scope in which the log and the audit know the client of a request.</summary>
    public required Func<HttpContext, IDisposable?> Scope { get; init; }

    /// <summary>Forwards a request to a port of a sandbox, and answers it.</summary>
    public required Func<HttpContext, PortForward, Task> ForwardAsync { get; init; }
}

/// <summary>A request for a port of a sandbox.</summary>
/// <param name="SandboxId">Id of the sandbox, which exists.</param>
/// <param name="Port">The port: 1 to 65,535.</param>
/// <param name="Prefix">What the path of the request has before the program's path; empty for nothing.</param>
/// <param name="Host">What the program is to see as Host; null for the header of the request.</param>
/// <param name="FailAsync">Answers when no program has answered: with the port, or that the sandbox has ended.</param>
public sealed record PortForward(string SandboxId, int Port, string Prefix, string? Host, Func<HttpContext, Task> FailAsync);
