using System.Diagnostics;

namespace Pandora.Engine.Telemetry;

/// <summary>
/// The engine's spans: <c>sandbox.claim</c>, <c>sandbox.exec</c> and <c>sandbox.end</c> are children of the request's span;
/// <c>microvm.boot</c> has one child for each step. Without a listener a span costs one null check.
/// </summary>
public static class EngineTracing
{
    /// <summary>Name of the source.</summary>
    public const string SourceName = "Pandora.Engine";

    internal static readonly ActivitySource Source = new(SourceName);

    /// <summary>Marks a span as failed. The message must be one that clients may see.</summary>
    internal static void Fail(this Activity? span, string code, Exception exception)
    {
        span?.SetTag("error.type", code);
        span?.SetStatus(ActivityStatusCode.Error, exception.Message.Split('\n')[0]);
    }

    /// <summary>Starts work that outlives its caller. Its spans and log lines belong to no request.</summary>
    internal static Task Detach(Func<Task> work)
    {
        using var _ = ExecutionContext.SuppressFlow();
        return Task.Run(work);
    }
}
