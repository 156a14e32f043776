using System.Diagnostics.CodeAnalysis;
using Pandora.Engine.Networking;
using Pandora.Engine.Projects;

namespace Pandora.Engine.Sandboxes;

/// <summary>The options, journal and state that the sandboxes of a node share.</summary>
/// <param name="options">Limits.</param>
/// <param name="network">The host's network.</param>
/// <param name="journal">Record of the operations.</param>
/// <param name="time">The clock of ages and idle times.</param>
/// <param name="projects">Finds the projects; null for projects without bounds.</param>
[SuppressMessage("Design", "CA1001", Justification = "The token of _detaching is read after the node closed; nothing to free")]
internal sealed class SandboxNode(
    EngineOptions options, IHostNetwork network, SandboxJournal journal, TimeProvider time, FindProject? projects = null)
{
    private readonly CancellationTokenSource _detaching = new();
    private volatile bool _isClosed;

    /// <summary>Limits.</summary>
    public EngineOptions Options => options;

    /// <summary>The host's network.</summary>
    public IHostNetwork Network => network;

    /// <summary>Record of the operations.</summary>
    public SandboxJournal Journal => journal;

    /// <summary>The clock of ages and idle times.</summary>
    public TimeProvider Time => time;

    /// <summary>Finds the projects.</summary>
    public FindProject Projects { get; } = projects ?? (name => new Project(name));

    /// <summary>How long a sandbox of a project may live; null for ever.</summary>
    public TimeSpan? LongestLifeOf(string project)
    {
        double? ofServer = options.MaxLifetime > 0 ? options.MaxLifetime : null;
        var seconds = Projects(project).MaxLifetime is { } most ? Math.Min(most, ofServer ?? most) : ofServer;
        return seconds is { } limit ? TimeSpan.FromSeconds(limit) : null;
    }

    /// <summary>Cancelled when the server stops and interrupts the commands that still run.</summary>
    public CancellationToken Detaching => _detaching.Token;

    /// <summary>Whether the server stops, and begins nothing new.</summary>
    public bool IsClosed => _isClosed;

    /// <summary>Refuses all new claims and commands.</summary>
    public void Close() => _isClosed = true;

    /// <summary>Interrupts the commands that run.</summary>
    public Task InterruptAsync() => _detaching.CancelAsync();

    /// <summary>Throws when the server stops.</summary>
    /// <exception cref="PandoraException">The server stops.</exception>
    public void MustServe()
    {
        if (_isClosed)
        {
            throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
        }
    }
}
