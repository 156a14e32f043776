using System.Diagnostics.CodeAnalysis;

namespace Pandora.Engine.Sandboxes;

/// <summary>What the sandboxes of a node share.</summary>
/// <param name="options">Limits.</param>
/// <param name="journal">Where operations are written down.</param>
/// <param name="time">For ages and activity.</param>
[SuppressMessage("Design", "CA1001", Justification = "The token of _detaching is read after the node closed; nothing to free")]
internal sealed class SandboxNode(EngineOptions options, SandboxJournal journal, TimeProvider time)
{
    private readonly CancellationTokenSource _detaching = new();
    private volatile bool _isClosed;

    /// <summary>Limits.</summary>
    public EngineOptions Options => options;

    /// <summary>Where operations are written down.</summary>
    public SandboxJournal Journal => journal;

    /// <summary>For ages and activity.</summary>
    public TimeProvider Time => time;

    /// <summary>Cancelled when commands that still run are interrupted, because the server stops.</summary>
    public CancellationToken Detaching => _detaching.Token;

    /// <summary>Whether the server stops, and nothing new is begun.</summary>
    public bool IsClosed => _isClosed;

    /// <summary>Lets nothing new begin.</summary>
    public void Close() => _isClosed = true;

    /// <summary>Interrupts the commands that run.</summary>
    public Task InterruptAsync() => _detaching.CancelAsync();

    /// <exception cref="PandoraException">The server stops.</exception>
    public void MustServe()
    {
        if (_isClosed)
        {
            throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
        }
    }
}
