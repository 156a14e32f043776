using System.Diagnostics;

namespace Pandora.Engine.Telemetry;

/// <summary>
/// The engine's spans: <c>sandbox.claim</c>, <c>sandbox.exec</c> and <c>sandbox.end</c> under the request that asked, and
/// <c>microvm.boot</c> with a child a step. Without a listener they cost a null check.
/// </summary>
public static class EngineTracing
{
    /// <summary>Name of the source.</summary>
    public const string SourceName = "Pandora.Engine";

    internal static readonly ActivitySource Source = new(SourceName);

    /// <summary>Marks a span as failed. The message is one that a client could be told.</summary>
    internal static void Fail(this Activity? span, string code, Exception exception)
    {
        span?.SetTag("error.type", code);
        span?.SetStatus(ActivityStatusCode.Error, exception.Message.Split('\n')[0]);
    }

    /// <summary>Starts work that outlives its caller: it belongs to no request, so neither its spans nor its log lines do.</summary>
    internal static Task Detach(Func<Task> work)
    {
        using var _ = ExecutionContext.SuppressFlow();
        return Task.Run(work);
    }
}
