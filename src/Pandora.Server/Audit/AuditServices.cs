using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Hosting;

namespace Pandora.Server.Audit;

/// <summary>Sets up the audit's file.</summary>
internal static class AuditServices
{
    /// <summary>Adds the file of the audit where the settings want one. It gets the audit's lines whatever log levels are set.</summary>
    /// <param name="logging">The logs of the server.</param>
    /// <param name="options">Settings.</param>
    /// <param name="dataDirectory">Directory in which the directory of the audit is.</param>
    public static ILoggingBuilder AddPandoraAudit(this ILoggingBuilder logging, ServerOptions options, string dataDirectory)
    {
        if (options.Audit == AuditTarget.Log)
        {
            return logging;
        }

        logging.Services.AddSingleton(_ => new AuditFile(
            AuditFile.DirectoryIn(dataDirectory), options.AuditFileSize * 1024L * 1024, options.AuditFiles));
        logging.Services.AddSingleton(s => new AuditLog(
            s.GetRequiredService<AuditFile>().Append, s.GetRequiredService<ServerMetrics>(), s.GetRequiredService<TimeProvider>(),
            () => LoggerIn(s)));
        logging.Services.AddSingleton<ILoggerProvider, AuditProvider>();
        // A rule that names the provider takes precedence over all rules that do not.
        logging.AddFilter<AuditProvider>(null, LogLevel.None);
        logging.AddFilter<AuditProvider>(AuditLine.Category, LogLevel.Information);
        return logging;
    }

    private static ILogger LoggerIn(IServiceProvider services)
    {
        try
        {
            return services.GetRequiredService<ILogger<AuditLog>>();
        }
        catch (ObjectDisposedException)
        {
            // The first line comes from an engine that ends because the server could not start.
            return NullLogger.Instance;
        }
    }
}
