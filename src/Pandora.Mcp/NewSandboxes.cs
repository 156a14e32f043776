using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp;

/// <summary>Makes sandboxes for clients of this front end, and knows them again.</summary>
internal sealed class NewSandboxes(EngineOptions options, FindProject projects)
{
    /// <summary>Idle time in seconds after which a sandbox ends that asks for none: a model thinks for minutes, and a client that went
    /// away says nothing.</summary>
    public const double DefaultIdleTimeout = 900;

    /// <summary>Name of the annotation of a sandbox that was made through this front end. Its value says nothing.</summary>
    public const string Annotation = "mcp";

    /// <summary>Whether a sandbox was made through this front end.</summary>
    public static bool IsOwn(Sandbox sandbox) => sandbox.Annotations.ContainsKey(Annotation);

    /// <summary>Makes a sandbox.</summary>
    /// <exception cref="PandoraException">The request is invalid or above a bound, or no microVM became ready in time.</exception>
    public Task<CreatedSandbox> CreateAsync(ProjectSandboxes sandboxes, SandboxRequest request, CancellationToken cancellationToken)
    {
        var ceiling = Math.Min(options.LongestIdleTimeout, projects(sandboxes.Project).MaxLifetime ?? double.MaxValue);
        return sandboxes.CreateAsync(
            request with
            {
                IdleTimeout = request.IdleTimeout ?? Math.Min(DefaultIdleTimeout, ceiling),
                Annotations = new Dictionary<string, string> { [Annotation] = "1" },
            },
            cancellationToken);
    }
}
