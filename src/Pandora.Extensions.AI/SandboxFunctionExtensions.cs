using Microsoft.Extensions.AI;
using Pandora.Client;

namespace Pandora.Extensions.AI;

/// <summary>Makes functions for agents from sandboxes.</summary>
public static class SandboxFunctionExtensions
{
    /// <summary>
    /// The functions by which an agent uses a sandbox: it runs commands, starts and reads processes, reads, writes, edits, lists and
    /// searches files, and makes links to ports. They are the tools of the server's MCP front end, bound to this sandbox: an agent
    /// cannot name another. They neither make sandboxes nor end them: the sandbox is the program's, and lives until the program ends it.
    /// <para>
    /// A result is text, or a list of <see cref="AIContent"/> with a <see cref="DataContent"/> for an image or another binary file. Its
    /// first line is Pandora's; what the sandbox wrote follows a line that says so. A failure is a result, too, as text that says what to
    /// do: also when the server cannot be reached or the sandbox has ended. Cancelling a call of <c>run</c> kills its command.
    /// </para>
    /// </summary>
    /// <param name="sandbox">The sandbox. The functions hold it, so that its client keeps it alive as long as they are in use.</param>
    /// <param name="options">Which functions, and their names; null is all, with the names of the tools.</param>
    /// <returns>The functions, safe for use by many threads. They need no disposal.</returns>
    /// <exception cref="ArgumentException">An option is not allowed.</exception>
    /// <exception cref="NotSupportedException">The sandbox is a test's, without a client.</exception>
    /// <example>
    /// <code>
    /// await using var sandbox = await pandora.CreateAsync();
    /// var options = new ChatOptions { Tools = [.. sandbox.AsAIFunctions()] };
    /// var answer = await agent.GetResponseAsync("Which Python is there?", options);
    /// </code>
    /// </example>
    public static IReadOnlyList<AIFunction> AsAIFunctions(this Sandbox sandbox, SandboxFunctionOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(sandbox);
        options ??= new SandboxFunctionOptions();
        options.Check();
        var server = new ServerTools(sandbox.Api);
        return
        [
            .. SandboxTool.All.Where(t => options.Include?.Contains(t.Name) != false)
                .Select(t => new SandboxFunction(sandbox, server, t, options.NamePrefix)),
        ];
    }
}
