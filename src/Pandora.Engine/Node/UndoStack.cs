using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Node;

/// <summary>What a node has opened, undone in reverse. One failure is no reason to leave the rest.</summary>
internal sealed partial class UndoStack(ILogger logger)
{
    private readonly Stack<Func<ValueTask>> _steps = new();

    /// <summary>Whether sandboxes and warm microVMs are left alive for the next server, with all that they need.</summary>
    public bool Keeps { get; set; }

    /// <summary>Adds how the newest is undone.</summary>
    public void Push(Func<ValueTask> undo) => _steps.Push(undo);

    /// <summary>Adds what is disposed of.</summary>
    public void Push(IDisposable opened) => _steps.Push(() =>
    {
        opened.Dispose();
        return ValueTask.CompletedTask;
    });

    /// <summary>Undoes all of it.</summary>
    public async Task RunAsync()
    {
        while (_steps.TryPop(out var undo))
        {
            try
            {
                await undo();
            }
            catch (Exception e)
            {
                LogFailed(e);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A part of the engine could not be stopped; the next start undoes what it left")]
    private partial void LogFailed(Exception exception);
}
