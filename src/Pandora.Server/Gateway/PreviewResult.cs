using Pandora.Contracts;

namespace Pandora.Server.Gateway;

/// <summary>What became of a request to a preview, for the metrics.</summary>
internal enum PreviewResult
{
    /// <summary>The program in the guest answered, or a link was turned into a cookie.</summary>
    Ok,

    /// <summary>It had neither key nor link that opens the preview.</summary>
    Unauthorized,

    /// <summary>A page of another site made a browser send it.</summary>
    ForbiddenOrigin,

    /// <summary>No program listens on the port.</summary>
    PortClosed,

    /// <summary>The program's answer was no HTTP, was too long, or broke off.</summary>
    BadAnswer,

    /// <summary>The program did not answer in time.</summary>
    Timeout,

    /// <summary>The sandbox has ended.</summary>
    Gone,

    /// <summary>There is no such sandbox.</summary>
    NotFound,

    /// <summary>Too many connections to the sandbox were open.</summary>
    Limit,

    /// <summary>The guest's agent did not answer, or the server was starting or stopping.</summary>
    Unreachable,

    /// <summary>The client went away, or what it passed by ended.</summary>
    Cancelled,
}

/// <summary>The results of refusals.</summary>
internal static class PreviewResults
{
    /// <summary>The result of a refusal with this code.</summary>
    public static PreviewResult Of(ErrorCode code) => code.Code switch
    {
        "unauthorized" or "forbidden" or "too_many_attempts" => PreviewResult.Unauthorized,
        "forbidden_origin" => PreviewResult.ForbiddenOrigin,
        "port_closed" => PreviewResult.PortClosed,
        "port_bad_answer" => PreviewResult.BadAnswer,
        "port_timeout" => PreviewResult.Timeout,
        "sandbox_gone" => PreviewResult.Gone,
        "sandbox_not_found" => PreviewResult.NotFound,
        "too_many_connections" => PreviewResult.Limit,
        _ => PreviewResult.Unreachable,
    };
}
