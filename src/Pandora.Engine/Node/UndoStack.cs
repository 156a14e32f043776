using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Node;

/// <summary>The steps that undo the opening of a node, run in reverse order. An error in one step does not stop the others.</summary>
internal sealed partial class UndoStack(ILogger logger)
{
    private readonly Stack<Func<ValueTask>> _steps = new();

    /// <summary>Whether sandboxes and warm microVMs, with all that they need, stay alive for the next server.</summary>
    public bool Keeps { get; set; }

    /// <summary>Adds the step that undoes the newest part.</summary>
    public void Push(Func<ValueTask> undo) => _steps.Push(undo);

    /// <summary>Adds a part to dispose.</summary>
    public void Push(IDisposable opened) => _steps.Push(() =>
    {
        opened.Dispose();
        return ValueTask.CompletedTask;
    });

    /// <summary>Runs all steps, newest first.</summary>
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

    [LoggerMessage(
        Level = LogLevel.Error, Message = "A part of the engine could not be stopped; the next start removes what remains of it")]
    private partial void LogFailed(Exception exception);
}
